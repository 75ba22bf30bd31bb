// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestAliases(t *testing.T) {
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(`1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /home rw - ext4 /dev/sda2 rw
3 1 8:2 / /data rw - ext4 /dev/sda2 rw
4 2 8:2 /ann/src/sub /home/ann/src/in rw - ext4 /dev/sda2 rw
5 2 8:2 /ann/src/sub/deep /home/ann/src/deep rw - ext4 /dev/sda2 rw
6 2 8:2 /ann/src/sub /home/ann/src/over rw - ext4 /dev/sda2 rw
7 6 8:3 / /home/ann/src/over rw - ext4 /dev/sda3 rw
8 1 8:2 /ann/srcs /srv rw - ext4 /dev/sda2 rw
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/home/ann/src/sub/secret": "/data/ann/src/sub/secret /home/ann/src/in/secret",
		"/home/ann/src/sub":        "/data/ann/src/sub /home/ann/src/deep /home/ann/src/in",
		"/home/ann/src/in/secret":  "/data/ann/src/sub/secret /home/ann/src/sub/secret",
		"/home/ann/src/over/x":     "",
		"/etc/passwd":              "",
		"/home/ann/src":            "/data/ann/src /home/ann/src/deep /home/ann/src/in",
	} {
		got := aliases(path, mounts)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
