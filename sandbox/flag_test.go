// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

func TestFix(t *testing.T) {
	plan, _ := explained(t)
	links := map[string]string{"/srv/link": "/home/ann/.ssh", "/home/ann": "/var/home/ann", "/home/ann/x": "/var/home/ann/x", "/srv/gone": ""}
	fix := plan.fixes(func(path string) string {
		if to, ok := links[path]; ok {
			return to
		}
		if filepath.Base(path) == "new" {
			return ""
		}
		return path
	})
	for _, tt := range []struct{ action, target, rule, errno, want string }{
		{"open-read", "/home/ann/x", denyfs.RuleNotGranted, "ENOENT", "--ro /home/ann/x"},
		{"stat", "/srv/a b", denyfs.RuleNotGranted, "ENOENT", "--ro '/srv/a b'"},
		{"list", "/srv/app", denyfs.RuleNotGranted, "EACCES", "--ro /srv/app"},
		{"open-write", "/srv/x", denyfs.RuleNotGranted, "EACCES", "--rw /srv/x"},
		{"create", "/srv/app/x", denyfs.RuleNotGranted, "EACCES", "--rw /srv/app/x"}, // it is there
		{"create", "/srv/app/new", denyfs.RuleNotGranted, "EACCES", "--rw /srv/app"},
		{"open-write", "/home/ann/src/other/x", "", "EROFS", "--rw /home/ann/src/other/x"},
		{"unlink", "/home/ann/src/other/x", "", "EROFS", "--rw /home/ann/src/other"},
		// What another path would be opened by.
		{"open-read", "/srv/link", denyfs.RuleNotGranted, "ENOENT", ""},
		{"open-write", "/srv/link", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-read", "/srv/gone", denyfs.RuleNotGranted, "ENOENT", ""},
		// What such a flag would not do, or open too much.
		{"create", "/srv/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-write", "/usr/bin/env", "", "EROFS", ""},
		{"create", "/usr/bin/new", "", "EROFS", ""},
		{"create", "/etc/cron.d/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-write", "/var/lib/app/x", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-read", "/var/lib/app/x", denyfs.RuleNotGranted, "ENOENT", "--ro /var/lib/app/x"},
		{"open-read", "/proc/1/root", denyfs.RuleNotGranted, "ENOENT", ""},
		{"open-read", "/home/ann/data/key/k", denyfs.RuleHidden, "EACCES", ""},
		{"create", "/home/ann/.bashrc", denyfs.RuleProtected, "EACCES", ""},
		{"open-write", "/home/ann/src/app/Makefile", "", "EROFS", ""},
		{"rename", "/home/ann/src/app/sub", "", "EBUSY", ""},
		{"list", "/srv", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home/bob", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home/ann/.cargo", denyfs.RuleNotGranted, "EACCES", ""},
		{"create", "/home/ann/.docker/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home/ann/.local/state/agentjail/runs", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home/ann/.local/state", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-write", "/home/ann/.nvm/bin/node", denyfs.RuleNotGranted, "EACCES", ""},
		{"create", "/home/ann/.nvm/bin/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"create", "/home/ann/.nvm/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"exec", "/home/ann/.nvm/bin/node", denyfs.RuleNotGranted, "EACCES", "--ro /home/ann/.nvm/bin/node"},
		{"open-write", "/srv/app/.git/config", denyfs.RuleNotGranted, "EACCES", ""},
		{"create", "/srv/app/.git/hooks/new", denyfs.RuleNotGranted, "EACCES", ""},
		{"mkdir", "/srv/app/.vscode", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-write", "/srv/app/.git", denyfs.RuleNotGranted, "EACCES", ""},
		{"mkdir", "/srv/app/.git", denyfs.RuleNotGranted, "EACCES", ""},
		{"create", "/srv/app/.git/refs/heads/new", denyfs.RuleNotGranted, "EACCES", "--rw /srv/app/.git/refs/heads"},
		{"open-read", "/srv/app/.git/config", denyfs.RuleNotGranted, "ENOENT", "--ro /srv/app/.git/config"},
		{"create", "/home/ann/src/other/.git/hooks/new", "", "EROFS", ""},
	} {
		e := audit.Event{Class: audit.ClassFile, Action: tt.action, Decision: audit.Deny, Target: tt.target, Rule: tt.rule, Errno: tt.errno}
		if got := fix(e); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.action, tt.target, got, tt.want)
		}
	}
	for _, e := range []audit.Event{
		{Class: audit.ClassUnix, Action: "bind", Target: "/run/x", Rule: denyfs.RuleNotGranted},
		{Class: audit.ClassNet, Action: "tcp.connect", Target: "9.9.9.9:1"},
		{Class: audit.ClassSyscall, Action: "mount", Target: "/x"},
		{Class: audit.ClassUnix, Action: "connect", Target: "/run/docker.sock", Rule: denyfs.RuleNotGranted},
	} {
		if got := fix(e); got != "" {
			t.Errorf("%s %s: %q", e.Class, e.Action, got)
		}
	}
}
