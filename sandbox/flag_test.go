// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"testing"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

func TestFix(t *testing.T) {
	plan, _ := explained(t)
	for _, tt := range []struct{ action, target, rule, errno, want string }{
		{"open-read", "/home/ann/x", denyfs.RuleNotGranted, "ENOENT", "--ro /home/ann/x"},
		{"stat", "/srv/a b", denyfs.RuleNotGranted, "ENOENT", "--ro '/srv/a b'"},
		{"list", "/srv", denyfs.RuleNotGranted, "EACCES", "--ro /srv"},
		{"open-write", "/srv/x", denyfs.RuleNotGranted, "EACCES", "--rw /srv/x"},
		{"create", "/srv/app/x", denyfs.RuleNotGranted, "EACCES", "--rw /srv/app"},
		{"open-write", "/home/ann/src/other/x", "", "EROFS", "--rw /home/ann/src/other/x"},
		{"unlink", "/home/ann/src/other/x", "", "EROFS", "--rw /home/ann/src/other"},
		// What such a flag would not do, or open too much.
		{"create", "/srv/x", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/home", denyfs.RuleNotGranted, "EACCES", ""},
		{"list", "/", denyfs.RuleNotGranted, "EACCES", ""},
		{"open-write", "/usr/bin/env", "", "EROFS", ""},
		{"create", "/usr/bin/x", "", "EROFS", ""},
		{"open-read", "/proc/1/root", denyfs.RuleNotGranted, "ENOENT", ""},
		{"open-read", "/home/ann/data/key/k", denyfs.RuleHidden, "EACCES", ""},
		{"create", "/home/ann/.bashrc", denyfs.RuleProtected, "EACCES", ""},
		{"open-write", "/home/ann/src/app/Makefile", "", "EROFS", ""},
		{"rename", "/home/ann/src/app/sub", "", "EBUSY", ""},
	} {
		e := audit.Event{Class: audit.ClassFile, Action: tt.action, Decision: audit.Deny, Target: tt.target, Rule: tt.rule, Errno: tt.errno}
		if got := plan.fix(e); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.action, tt.target, got, tt.want)
		}
	}
	for _, e := range []audit.Event{
		{Class: audit.ClassUnix, Action: "bind", Target: "/run/x", Rule: denyfs.RuleNotGranted},
		{Class: audit.ClassNet, Action: "tcp.connect", Target: "9.9.9.9:1"},
		{Class: audit.ClassSyscall, Action: "mount", Target: "/x"},
	} {
		if got := plan.fix(e); got != "" {
			t.Errorf("%s %s: %q", e.Class, e.Action, got)
		}
	}
	if got := plan.fix(audit.Event{Class: audit.ClassUnix, Action: "connect", Target: "/run/x.sock", Rule: denyfs.RuleNotGranted}); got != "--socket /run/x.sock" {
		t.Errorf("connect: %q", got)
	}
}
