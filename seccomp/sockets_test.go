// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// layers gives the victim an overlay of a directory and a tmpfs: its files have another device for stat(2) than for
// sock_diag(7), as those of a subvolume of btrfs have.
func layers(dir string) error {
	upper, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
	if err := unix.Mount("none", upper, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, d := range []string{"files", "work"} {
		if err := os.Mkdir(filepath.Join(upper, d), 0o755); err != nil {
			return err
		}
	}
	return unix.Mount("none", merged, "overlay", 0,
		"userxattr,xino=off,lowerdir="+filepath.Join(dir, "rw")+",upperdir="+upper+"/files,workdir="+upper+"/work")
}

func numbers(t *testing.T, j *jail, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Stat(filepath.Join("/proc", j.pid, "root", path), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// A run reaches its own sockets on a file system whose stat(2) has several devices, by whatever name.
func TestConnectOverlay(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		merged := filepath.Join(j.dir, "merged")
		var fs unix.Statfs_t
		if err := unix.Statfs(filepath.Join("/proc", j.pid, "root", merged), &fs); err != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
			if os.Getenv("AGENTJAIL_MUST_WORK") == "1" {
				t.Fatal("must work: overlayfs in a user namespace")
			}
			t.Skip("no overlayfs in a user namespace here")
		}
		j.expect(step{Call: "listen", A: merged + "/own.sock"}, "")
		dir, file := numbers(t, j, merged), numbers(t, j, merged+"/own.sock")
		if dir.Dev == file.Dev {
			t.Fatalf("the test is of no use: %s and what is in it have the same device", merged)
		}
		j.expect(step{Call: "connect", A: merged + "/own.sock"}, "")
		j.expect(step{Call: "rename", A: merged + "/own.sock", B: merged + "/moved.sock"}, "")
		j.expect(step{Call: "connect", A: merged + "/moved.sock"}, "")
		j.expect(step{Call: "connect", A: "merged/moved.sock"}, "")
		// Another one in its place is the one that is reached. One that does not listen cannot be told from the host's here.
		j.expect(step{Call: "unlink", A: merged + "/moved.sock"}, "")
		j.expect(step{Call: "listen", A: merged + "/moved.sock"}, "")
		j.expect(step{Call: "connect", A: merged + "/moved.sock"}, "")
		j.expect(step{Call: "bind", A: merged + "/mute.sock"}, "")
		j.expect(step{Call: "connect", A: merged + "/mute.sock"}, "ECONNREFUSED", "unix connect "+merged+"/mute.sock ECONNREFUSED")
	})
}

// A socket of the host is refused also where one of the run has a file of the same number.
func TestConnectSameNumber(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		hosts := filepath.Join(j.dir, "ro", "host.sock")
		l, err := net.Listen("unix", hosts)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		host := numbers(t, j, hosts)
		own := fileID{host.Dev + 1, host.Ino} // as if it lay in another subvolume
		j.expect(step{Call: "listen", A: "rw/own.sock"}, "")
		mine := numbers(t, j, j.dir+"/rw/own.sock")
		s := j.supervisor.sockets
		s.do(func(int) {
			id, ok := s.listen[fileID{mine.Dev, mine.Ino}]
			if !ok {
				t.Error("a socket that listens is not known")
			}
			s.listen[own] = id
		})
		if got := s.holder(own); got != ofRun {
			t.Errorf("the run's own socket: %d, want %d", got, ofRun)
		}
		for _, f := range []fileID{{host.Dev, host.Ino}, {mine.Dev, mine.Ino + 1<<32}, {mine.Dev + 1, mine.Ino}} {
			if got := s.holder(f); got != ofHost {
				t.Errorf("%+v: %d, want %d", f, got, ofHost)
			}
		}
		j.expect(step{Call: "connect", A: hosts}, "ECONNREFUSED", "unix connect "+hosts+" ECONNREFUSED")
	})
}

// A socket of the run that does not listen hides no attempt at one of the host's with the same number.
func TestConnectSameNumberSilent(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		j.expect(step{Call: "bind", A: "rw/mute.sock"}, "")
		j.expect(step{Call: "connect", A: "rw/mute.sock"}, "ECONNREFUSED") // the twin: as by the kernel, and no event
		mute := numbers(t, j, j.dir+"/rw/mute.sock")
		s := j.supervisor.sockets
		if got := s.holder(fileID{mute.Dev, mute.Ino}); got != ofNobody {
			t.Errorf("the run's own socket: %d, want %d", got, ofNobody)
		}
		for _, f := range []fileID{{mute.Dev + 1, mute.Ino}, {mute.Dev, mute.Ino + 1<<32}, {mute.Dev, mute.Ino + 1}} {
			if got := s.holder(f); got != ofHost {
				t.Errorf("%+v: %d, want %d", f, got, ofHost)
			}
		}
	})
}

// Sockets that are gone are forgotten, and no file is taken for theirs any more.
func TestSocketsForget(t *testing.T) {
	inNamespaces(t, func(t *testing.T) {
		j := newJail(t)
		s := j.supervisor.sockets
		count := func() (n int) {
			s.do(func(int) { n = len(s.listen) })
			return n
		}
		j.expect(step{Call: "listen", A: "rw/stays.sock"}, "")
		var gone unix.Stat_t
		for range 3 * fewSockets {
			j.expect(step{Call: "listen", A: "rw/gone.sock"}, "")
			gone = numbers(t, j, j.dir+"/rw/gone.sock")
			j.expect(step{Call: "close"}, "")
			j.expect(step{Call: "rename", A: "rw/gone.sock", B: "rw/" + "was-" + j.next()}, "")
		}
		if n := count(); n == 0 || n > fewSockets {
			t.Errorf("%d sockets are remembered, of which one is there", n)
		}
		if got := s.holder(fileID{gone.Dev, gone.Ino}); got != ofHost {
			t.Errorf("a file whose socket is gone: %d, want %d", got, ofHost)
		}
		j.expect(step{Call: "connect", A: "rw/stays.sock"}, "")
		j.expect(step{Call: "listen", A: "@abstract"}, "")
		if n := count(); n > fewSockets {
			t.Errorf("%d sockets are remembered", n)
		}
	})
}

// TestScan reads answers that are cut off or of no sense as such, and to their end.
func TestScan(t *testing.T) {
	message := func(kind, flags uint16, body ...byte) []byte {
		b := make([]byte, unix.SizeofNlMsghdr, 64)
		binary.NativeEndian.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
		binary.NativeEndian.PutUint16(b[4:], kind)
		binary.NativeEndian.PutUint16(b[6:], flags)
		return append(b, body...)
	}
	socket := append(make([]byte, diagMessageSize), 12, 0, diagVFS, 0, 7, 0, 0, 0, 9, 0, 0x80, 0) // inode 7 of device 8:9
	one := message(unix.SOCK_DIAG_BY_FAMILY, 0, socket...)
	part := message(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_MULTI, socket...)
	end := message(unix.NLMSG_DONE, unix.NLM_F_MULTI)
	for _, c := range []struct {
		name  string
		b     []byte
		files int
		done  bool
	}{
		{"one", one, 1, true},
		{"a part", append(append([]byte{}, part...), part...), 2, false},
		{"the last part", append(append([]byte{}, part...), end...), 1, true},
		{"an error", message(unix.NLMSG_ERROR, 0, 1, 2, 3, 4), 0, true},
		{"nothing", nil, 0, true},
		{"cut off", part[:len(part)-1], 0, true},
		{"no header", part[:10], 0, true},
		{"a socket of no size", message(unix.SOCK_DIAG_BY_FAMILY, 0, 1, 2), 0, true},
		{"an attribute that is cut off", message(unix.SOCK_DIAG_BY_FAMILY, 0, socket[:diagMessageSize+6]...), 0, true},
		{"an attribute of no size", message(unix.SOCK_DIAG_BY_FAMILY, 0, append(make([]byte, diagMessageSize), 0, 0, diagVFS, 0)...), 0, true},
	} {
		files := 0
		done := scan(c.b, func(m []byte) {
			if f, ok := boundFile(m[diagMessageSize:]); ok && f == (fileID{unix.Mkdev(8, 9), 7}) {
				files++
			}
		})
		if files != c.files || done != c.done {
			t.Errorf("%s: %d files, done %v; want %d, %v", c.name, files, done, c.files, c.done)
		}
	}
}
