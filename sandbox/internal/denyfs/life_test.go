// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everything is a host on which every path is there, and is a directory if its last name starts with d.
func everything(path string) (fs.FileMode, error) {
	if strings.HasPrefix(filepath.Base(path), "d") {
		return fs.ModeDir | 0o755, nil
	}
	return 0o644, nil
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// remembered counts what a file system holds.
func remembered(f *FS) int {
	f.nodes.mu.Lock()
	defer f.nodes.mu.Unlock()
	f.reports.mu.Lock()
	defer f.reports.mu.Unlock()
	return len(f.nodes.byID) + len(f.nodes.through) + len(f.nodes.home) + len(f.reports.later)
}

func TestJailMemoryFlat(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 5_000
	}
	j := start(t, Config{HostLstat: everything})
	j.events.off.Store(true)
	j.do(op{Do: "flood", Path: "/d%d/file", N: n / 100})
	before, nodes := heap(), remembered(j.fs)
	j.do(op{Do: "flood", Path: "/d%d/file", N: n})
	j.do(op{Do: "flood", Path: "/file%d", N: n})
	// The kernel sends what it forgets a little later than the answers.
	deadline := time.Now().Add(30 * time.Second)
	for remembered(j.fs) > nodes+2*keep+100 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if after := remembered(j.fs); after > nodes+2*keep+100 {
		t.Errorf("%d lookups left %d nodes, before there were %d", 2*n, after, nodes)
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d lookups grew the heap from %d to %d KiB", 2*n, before>>10, after>>10)
	}
	// On a machine that stands still for several ticks (laterTicks) a directory is reported beside the file below it. None is missing.
	if got, want := int(j.events.n.Load()), 2*n+n/100; got < want || got > want+want/100 {
		t.Errorf("%d events, want %d, and at most a hundredth more", got, want)
	}
}

// TestJailHomeMemoryFlat looks at more files of the home than are remembered, and at whether those in use stay.
func TestJailHomeMemoryFlat(t *testing.T) {
	const n = 4 * keep
	j, home, private := homeJail(t)
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/.tool/%d", private, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j.ok(op{Do: "mkdir", Path: home + "/dir", Mode: 0o700})
	j.ok(op{Do: "enter", Path: home + "/dir"})
	j.ok(op{Do: "flood", Path: home + "/.tool/%d", N: n})
	j.ok(op{Do: "flood", Path: home + "/.tool/%d", N: n})
	deadline := time.Now().Add(30 * time.Second)
	for remembered(j.fs) > 3*keep && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if got := remembered(j.fs); got > 3*keep { // each node is counted twice
		t.Errorf("%d lookups left %d nodes", 2*n, got)
	}
	if d := j.ok(op{Do: "getcwd"}); d.Data != home+"/dir" {
		t.Errorf("the directory entered before is now %q", d.Data)
	}
	j.ok(write("relative", "r"))
	onHost(t, private+"/dir/relative", "r")
}

// blocked is a host that does not answer until it is let go.
type blocked struct {
	asked chan string
	let   chan struct{}
}

func (b *blocked) lstat(path string) (fs.FileMode, error) {
	b.asked <- path
	<-b.let
	return 0, fs.ErrNotExist
}

// TestJailKill kills the process inside while it waits for an answer, and looks at whether all ends.
func TestJailKill(t *testing.T) {
	b := &blocked{asked: make(chan string, 1), let: make(chan struct{})}
	j := start(t, Config{HostLstat: b.lstat})
	if err := j.in.Encode(op{Do: "stat", Path: "/file"}); err != nil {
		t.Fatal(err)
	}
	if path := <-b.asked; path != "/file" {
		t.Errorf("the host was asked for %q", path)
	}
	gone := make(chan struct{})
	go func() {
		_ = j.cmd.Process.Kill()
		_ = j.cmd.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the process inside did not die while its request was not answered")
	}
	close(b.let)
}

// TestJailClose ends the service while a process inside waits for it.
func TestJailClose(t *testing.T) {
	b := &blocked{asked: make(chan string, 1), let: make(chan struct{})}
	j := start(t, Config{HostLstat: b.lstat})
	if err := j.in.Encode(op{Do: "stat", Path: "/file"}); err != nil {
		t.Fatal(err)
	}
	<-b.asked
	if err := j.fs.Close(); err != nil {
		t.Error(err)
	}
	close(b.let)
	var d done
	if err := j.out.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Errno != unix.ENOTCONN && d.Errno != unix.ECONNABORTED {
		t.Errorf("whoever waited got %v", d.Errno)
	}
	if d := j.do(op{Do: "stat", Path: "/file"}); d.Errno != unix.ENOTCONN {
		t.Errorf("whoever came later got %v", d.Errno)
	}
}

// TestJailParallel has many threads ask for many things at once, while some of the answers hang.
func TestJailParallel(t *testing.T) {
	const threads, each = 32, 50
	b := &blocked{asked: make(chan string, hostSlots), let: make(chan struct{})}
	j := start(t, Config{HostLstat: func(path string) (fs.FileMode, error) {
		if strings.HasPrefix(path, "/hang") {
			return b.lstat(path)
		}
		return everything(path)
	}})
	for i := range hostSlots - 1 {
		j.do(op{Do: "background", Path: fmt.Sprintf("/hang%d", i)})
	}
	for range hostSlots - 1 {
		<-b.asked
	}
	if d := j.do(op{Do: "parallel", Path: "/d%d/file%d", N: threads, Length: each}); d.N != threads*each {
		t.Errorf("%d of %d were answered ENOENT", d.N, threads*each)
	}
	close(b.let)
	// With one place left to ask the host, some questions take too long: then the directory is reported in the place of its
	// file, and the kernel, which was told that it is absent, may ask for it again. No attempt may be without an event.
	events := 0
	for _, e := range j.events.take() {
		if strings.HasPrefix(e.Target, "/d") {
			events++
		}
	}
	if events < threads*each || events > threads*each*11/10 {
		t.Errorf("%d events for %d attempts", events, threads*each)
	}
}

func TestServeErrors(t *testing.T) {
	f, err := New(Config{Sink: &events{}})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// A device that cannot be read is an error, and so is a file system that was closed.
	if err := f.Serve(w); err == nil {
		t.Error("served a pipe that cannot be read")
	}
	if f, err = New(Config{Sink: &events{}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Serve(null); err != os.ErrClosed {
		t.Errorf("serving what is closed: %v", err)
	}
}

// otherUser is nobody's, and no process of the machine has it.
const otherUser = 64321

// openPlace makes a directory that every user can reach, with a FUSE device that everybody may open.
func openPlace(t *testing.T) (dir, dev string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	requireFUSE(t)
	dir, err := os.MkdirTemp("", "denyfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dev = dir + "/fuse"
	if err := unix.Mknod(dev, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Skip("cannot make a device: ", err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, dev: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir, dev
}

// makeDir makes a directory that belongs to the other user.
func makeDir(t *testing.T, path string) string {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, otherUser, otherUser); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestJailOrdinary runs the mount tests again as an ordinary user, if the tests run as root.
func TestJailOrdinary(t *testing.T) {
	dir, dev := openPlace(t)
	binary, tmp := dir+"/test", makeDir(t, dir+"/tmp")
	copyFile(t, "/proc/self/exe", binary)
	if err := os.Chmod(binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.run=^TestJail", "-test.short", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AGENTJAIL_TEST_FUSE="+dev, "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser},
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: TestJail"); n < 10 {
		t.Errorf("only %d tests ran:\n%s", n, out)
	}
}

// TestJailForeign is root serving a run of another user, as under sudo.
func TestJailForeign(t *testing.T) {
	dir, dev := openPlace(t)
	private := makeDir(t, dir+"/private")
	home := HomeConfig{Path: "/home/u", Private: private}
	c := Config{Grants: []Grant{{"/home/u/src/p", true}}, Home: home}
	j := startAs(t, otherUser, setup{Device: dev, Mount: makeDir(t, dir+"/mount")}, c)
	j.ok(op{Do: "mkdir", Path: "/home/u/d", Mode: 0o750})
	j.ok(write("/home/u/d/f", "f"))
	j.ok(op{Do: "symlink", Path: "d/f", Path2: "/home/u/l"})
	j.ok(op{Do: "mknod", Path: "/home/u/fifo", Mode: unix.S_IFIFO | 0o600})
	j.ok(write("/home/u/src/new", "n"))
	if d := j.ok(op{Do: "stat", Path: "/home/u/d/f"}); !strings.HasPrefix(d.Data, "100640 nlink=1 uid=0 ") {
		t.Errorf("a new file stats as %s", d.Data)
	}
	if d := j.ok(op{Do: "open", Path: "/home/u/l"}); d.Data != "f" {
		t.Errorf("it reads %q", d.Data)
	}
	for _, name := range []string{"d", "d/f", "l", "fifo", "src", "src/new"} {
		var st unix.Stat_t
		if err := unix.Lstat(private+"/"+name, &st); err != nil || st.Uid != otherUser || st.Gid != otherUser {
			t.Errorf("%s belongs to %d:%d, %v", name, st.Uid, st.Gid, err)
		}
	}
	// What the user could not read on the host is not read for them.
	if err := os.WriteFile(private+"/root", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := j.do(op{Do: "open", Path: "/home/u/root"}); d.Errno != unix.EACCES {
		t.Errorf("a file of root reads %q, %v", d.Data, d.Errno)
	}
	j.expect(op{Do: "access", Path: "/home/u/root", Mode: unix.R_OK}, unix.EACCES)
	j.expect(op{Do: "open", Path: "/etc/shadow"}, unix.ENOENT, "file open-read /etc/shadow ENOENT")
	if unix.Geteuid() != 0 {
		t.Error("the test is no longer root")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkDenied is a stat of a file that is denied, a stat of one that the host does not have, and one through a
// directory that is walked through.
func BenchmarkDenied(b *testing.B) {
	for name, path := range map[string]string{"file": "%s/file", "absent": "%s/none%%d", "through": "%s/d/file"} {
		b.Run(name, func(b *testing.B) {
			h := tree(b, "file", "d/file")
			j := start(b, Config{Grants: []Grant{{h + "/g", true}}})
			j.events.off.Store(true)
			path := fmt.Sprintf(path, h)
			if !strings.Contains(path, "%d") {
				path += "%.0d"
			}
			b.ResetTimer()
			j.do(op{Do: "flood", Path: path, N: b.N})
		})
	}
}

// BenchmarkStart is what a run waits for: a file system made, and served to the first answer.
func BenchmarkStart(b *testing.B) {
	c := Config{
		Grants: []Grant{{"/usr", true}, {"/etc/passwd", false}, {"/home/u/src/p", true}},
		Home:   HomeConfig{Path: "/home/u", Private: b.TempDir(), Dirs: []string{".cache", ".config"}},
		Sink:   &events{},
	}
	for b.Loop() {
		f, err := New(c)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
