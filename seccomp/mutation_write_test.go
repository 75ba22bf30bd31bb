// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raw makes the call with the number N. Of its arguments fd is the file of the read-only place, one with a letter a path or a text, and
// all others are numbers.
func (s step) raw() error {
	var args [6]uintptr
	var texts [6][]byte
	for i, a := range s.Args {
		if n, err := strconv.ParseInt(a, 0, 64); err == nil {
			args[i] = uintptr(n)
			continue
		}
		if a == "fd" {
			fd, err := unix.Open("ro/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			args[i] = uintptr(fd)
			continue
		}
		texts[i] = append([]byte(a), 0)
		args[i] = uintptr(unsafe.Pointer(&texts[i][0]))
	}
	_, _, errno := unix.Syscall6(uintptr(s.N), args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return errno
	}
	return nil
}

// writes are the calls that ask to change what a path names, each with arguments by which it would change the read-only place; -100 is
// AT_FDCWD. With them, the action of the event.
var writes = map[string]string{
	"chmod": "chmod ro/file 0600", "chown": "chown ro/file 0 0", "creat": "create ro/new 0600", "fchmod": "chmod fd 0600",
	"fchmodat": "chmod -100 ro/file 0600", "fchmodat2": "chmod -100 ro/file 0600 0", "fchown": "chown fd 0 0",
	"fchownat": "chown -100 ro/file 0 0 0", "fremovexattr": "xattr fd user.x", "fsetxattr": "xattr fd user.x v 1 0",
	"futimesat": "utime -100 ro/file 0", "lchown": "chown ro/file 0 0", "link": "link rw/file ro/new", "linkat": "link -100 rw/file -100 ro/new 0",
	"lremovexattr": "xattr ro/file user.x", "lsetxattr": "xattr ro/file user.x v 1 0", "mkdir": "mkdir ro/new 0700",
	"mkdirat": "mkdir -100 ro/new 0700", "mknod": "mknod ro/new 0x1180 0", "mknodat": "mknod -100 ro/new 0x1180 0",
	"open": "open-write ro/file 1", "openat": "open-write -100 ro/file 2",
	"removexattr": "xattr ro/file user.x", "rename": "rename ro/file ro/new", "renameat": "rename -100 ro/file -100 ro/new",
	"renameat2": "rename -100 ro/file -100 ro/new 0", "rmdir": "rmdir ro/dir", "setxattr": "xattr ro/file user.x v 1 0",
	"symlink": "symlink x ro/new", "symlinkat": "symlink x -100 ro/new", "truncate": "truncate ro/file 0", "unlink": "unlink ro/file",
	"unlinkat": "unlink -100 ro/file 0", "utime": "utime ro/file 0", "utimensat": "utime -100 ro/file 0 0", "utimes": "utime ro/file 0",
}

// TestEveryWriteIsAsked: each call that writes to a path is refused and recorded in a read-only place; without its rule it is not on
// record, though the mount still refuses it. So with connect and listen: without the one a host's socket is reached, without the other
// the run's own is not.
// Containment checks: B05, B17, L01.
func TestEveryWriteIsAsked(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		p := defaultPolicy(t)
		j := newJail(t)
		var asked []number
		var names []string
		for _, n := range tables[NativeArch()] {
			r := p.rules[n.Name]
			if r.Otherwise.Kind != Write && !slices.ContainsFunc(r.Clauses, func(c clause) bool { return c.Then.Kind == Write }) {
				continue
			}
			if n.Name == "bind" {
				j.expect(step{Call: "bind", A: "ro/sock"}, "EROFS", "file bind "+j.dir+"/ro/sock EROFS")
			} else {
				j.refuses(n)
			}
			asked, names = append(asked, n), append(names, n.Name)
		}
		if len(asked) < 20 {
			t.Errorf("only %d calls are asked about", len(asked))
		}
		t.Setenv(withoutEnv, strings.Join(names, " "))
		j = newJail(t)
		for _, n := range asked {
			if n.Name == "bind" {
				j.expect(step{Call: "bind", A: "ro/sock"}, "EROFS")
			} else {
				j.write(n)
			}
			if events := j.events.texts(); len(events) != 0 {
				t.Fatalf("%s: on record without its rule: %q", n.Name, events)
			}
		}
		t.Setenv(withoutEnv, "connect")
		newJail(t).reaches(t, true)
		t.Setenv(withoutEnv, "listen")
		newJail(t).reaches(t, false)
	})
}

// write has the victim make one of writes.
func (j *jail) write(n number) string {
	j.t.Helper()
	words := strings.Fields(writes[n.Name])
	if len(words) == 0 {
		j.t.Fatalf("%s is asked about, and not among writes", n.Name)
	}
	return j.do(step{Call: "raw", N: int(n.Nr), Args: words[1:]})
}

func (j *jail) refuses(n number) {
	j.t.Helper()
	before := len(j.events.texts())
	errno := j.write(n)
	events := j.events.texts()[before:]
	action, _, _ := strings.Cut(writes[n.Name], " ")
	if errno != "EROFS" || len(events) != 1 || !strings.HasPrefix(events[0], "file "+action+" "+j.dir+"/ro/") {
		j.t.Errorf("%s: %s, events %q", n.Name, errno, events)
	}
}

// reaches tells whether the victim reaches a socket of the host's, and its own.
func (j *jail) reaches(t *testing.T, host bool) {
	t.Helper()
	path := filepath.Join(j.dir, "ro", "host.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := ""
	if !host {
		own = "ECONNREFUSED"
	}
	if got := j.do(step{Call: "connect", A: path}); (got == "") != host {
		t.Errorf("the host's socket without the rule: %q", got)
	}
	j.do(step{Call: "listen", A: "rw/own.sock"})
	if got := j.do(step{Call: "connect", A: "rw/own.sock"}); got != own {
		t.Errorf("the run's own socket without the rule: %q, want %q", got, own)
	}
}
