// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNeededAccess(t *testing.T) {
	plan := func(uid int) Plan { return Plan{Workdir: "/w", Identity: Identity{UID: uid}} }
	for name, c := range map[string]struct {
		plan Plan
		m    Mount
		want uint32
	}{
		"a file to read":            {plan(0), Mount{Target: "/r"}, unix.F_OK},
		"root's to write":           {plan(0), Mount{Target: "/r", Writable: true}, unix.W_OK},
		"root's directory":          {plan(0), Mount{Target: "/w", Writable: true}, unix.X_OK | unix.W_OK},
		"a user's directory":        {plan(7), Mount{Target: "/w", Writable: true}, unix.X_OK},
		"root's directory, to read": {plan(0), Mount{Target: "/w"}, unix.X_OK},
	} {
		if got := neededAccess(c.plan, c.m); got != c.want {
			t.Errorf("%s: %#o, want %#o", name, got, c.want)
		}
	}
}

// What permissions keep root out of is found, whatever root's capabilities are, and those are there again afterwards.
func TestCheckReach(t *testing.T) {
	const other = 64101
	if os.Getuid() != 0 {
		t.Skip("root alone can make files of others")
	}
	dir := t.TempDir()
	for _, path := range []string{"mine/in", "theirs/in", "shut/in", "sealed"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{"theirs": 0o755, "theirs/in": 0o755, "shut/in": 0o755, "shut": 0o700} {
		if err := errors.Join(os.Chown(filepath.Join(dir, path), other, other), os.Chmod(filepath.Join(dir, path), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "sealed"), 0o555); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path     string
		writable bool
		barrier  string // "" where a run is fine
		fix      string
	}{
		{"mine/in", true, "", ""},
		{"theirs/in", false, "", ""},
		{"theirs/in", true, "theirs/in", "chown -R root"},
		{"shut/in", false, "shut", "sudo -u '#64101' agentjail run"},
		{"sealed", true, "sealed", "permissions"},
		{"sealed", false, "", ""},
		{"absent", true, "", ""}, // the mount will say so
	} {
		full := filepath.Join(dir, c.path)
		err := checkReach(Plan{Workdir: full, State: "/state", Mounts: []Mount{{Kind: Bind, Target: full, Source: full, Writable: c.writable}}})
		var setup *SetupError
		switch {
		case c.barrier == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.barrier == "":
		case !errors.As(err, &setup) || !strings.Contains(err.Error(), `"`+filepath.Join(dir, c.barrier)+`"`) || !strings.Contains(setup.Fix, c.fix):
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sealed/x"), nil, 0o600); err != nil {
		t.Errorf("root's capabilities are gone: %v", err)
	}
}
