// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// nesting lets the victim make namespaces, beside what protecting does.
func nesting(dir string, c *Config) {
	protecting(dir, c)
	c.Policy, _ = Default(Options{Allow: []string{nestedGroup}})
	for name, target := range map[string]string{"absolute": "/old/kept", "up": "../../../../../../../../old/kept", "away": dir + "/old/kept"} {
		os.Symlink(target, filepath.Join(dir, "rw", name))
	}
}

// TestNested: what a caller with another root aims at is found from that root, and named from the run's.
// Containment check: E05.
func TestNested(t *testing.T) {
	t.Setenv(groupsEnv, nestedGroup)
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t, nesting)
		write, create := unix.O_WRONLY|unix.O_TRUNC, unix.O_WRONLY|unix.O_CREAT
		kept, rw := j.dir+"/old/kept", j.dir+"/rw"
		file := func(action, path string) string { return "file " + action + " " + path + " EROFS" }
		j.expect(step{Call: "socket", N: unix.AF_INET}, "")
		j.expect(step{Call: "setxattr", A: "rw/file", B: "user.x"}, "")
		j.expect(step{Call: "listen", A: "rw/own.sock"}, "")
		j.expect(step{Call: "nest", N: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}, "EPERM", "syscall clone clone(CLONE_NEWUSER|CLONE_NEWNS|0x1011) EPERM")
		j.expect(step{Call: "nest", N: unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET}, "",
			"syscall clone clone(CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET|0x1011) ")
		for _, c := range []struct {
			s     step
			errno string
			event string
		}{
			{step{Call: "unshare", N: unix.CLONE_NEWIPC}, "", "syscall unshare unshare(CLONE_NEWIPC) "},
			{step{Call: "unshare", N: unix.CLONE_NEWNS}, "EPERM", "syscall unshare unshare(CLONE_NEWNS) EPERM"},
			{step{Call: "socket", N: unix.AF_INET}, "EAFNOSUPPORT", "syscall socket socket(AF_INET, SOCK_STREAM, 0) EAFNOSUPPORT"},
			{step{Call: "setxattr", A: "rw/file", B: "user.x"}, "EPERM", "syscall setxattr setxattr EPERM"},
			{step{Call: "listen", A: "rw/other.sock"}, "", ""},
			{step{Call: "connect", A: "rw/other.sock"}, "ECONNREFUSED", "unix connect " + rw + "/other.sock ECONNREFUSED"},
			{step{Call: "connect", A: "rw/own.sock"}, "", ""},
			{step{Call: "open", A: kept + "/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "again", A: kept + "/file", B: "/proc/self/fd/%d", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "/proc/self/root" + kept + "/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "/proc/thread-self/root" + j.dir + "/ro/file", N: write}, "EROFS", file("open-write", j.dir+"/ro/file")},
			{step{Call: "chroot", A: j.dir}, "", ""},
			{step{Call: "chdir", A: "/"}, "", ""},
			{step{Call: "open", A: "/old/kept/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "../old/kept/new", N: create}, "EROFS", file("create", kept+"/new")},
			{step{Call: "open", A: "/rw/absolute/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "rw/up/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "/rw/away/file", N: write}, "ENOENT", ""},
			{step{Call: "open", A: kept + "/file", N: write}, "ENOENT", ""},
			{step{Call: "openat", A: "/old", B: "kept/file", N: write}, "EROFS", file("open-write", kept+"/file")},
			{step{Call: "open", A: "/ro/file", N: write}, "EROFS", file("open-write", j.dir+"/ro/file")},
			{step{Call: "rename", A: "/rw/file", B: "/old/kept/file"}, "EROFS", file("rename", kept+"/file")},
			{step{Call: "rename", A: "/old/held", B: "/old/gone"}, "EROFS", file("rename", j.dir+"/old/held")},
			{step{Call: "open", A: "/rw/kept", N: create}, "EROFS", file("create", rw+"/kept")},
			{step{Call: "open", A: "/rw/new", N: create}, "", ""},
			{step{Call: "mkdir", A: "/rw/mine"}, "", ""},
			{step{Call: "mkdir", A: "/rw/mine/kept"}, "", ""},
			{step{Call: "fchmod", A: "/old/kept/file", N: 0o600}, "EROFS", file("chmod", kept+"/file")},
			{step{Call: "connect", A: "/rw/own.sock"}, "", ""},
			{step{Call: "connect", A: "/hosts/file"}, "ENOENT", "unix connect " + j.dir + "/hosts/file ENOENT"},
		} {
			var events []string
			if c.event != "" {
				events = []string{c.event}
			}
			j.expect(c.s, c.errno, events...)
		}
		// The thread that decided for it is again where it was for the others.
		j.expect(step{Call: "end"}, "")
		j.expect(step{Call: "open", A: kept + "/file", N: write}, "EROFS", file("open-write", kept+"/file"))
		j.expect(step{Call: "setxattr", A: "rw/file", B: "user.y"}, "")
	})
}
