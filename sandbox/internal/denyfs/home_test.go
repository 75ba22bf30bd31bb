// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// homeJail starts a jail with a home: on the host it has files; the private home has .tool and a native .cache.
func homeJail(t *testing.T) (j *jail, home, private string) {
	t.Helper()
	host := tree(t, "home/.gitconfig", "home/.ssh/id_rsa", "home/src/project/file", "home/src/other/file", "home/own/file")
	private = tree(t, "p/.tool/state", "p/.cache/", "p/theirs")
	home, private = host+"/home", private+"/p"
	c := Config{
		Grants: []Grant{{Path: home + "/src/project", Dir: true}},
		Home:   HomeConfig{Path: home, Private: private, Dirs: []string{".cache"}, Names: []string{"own"}},
	}
	j = start(t, c,
		bind{home + "/src/project", "root" + home + "/src/project"},
		bind{private + "/.cache", "root" + home + "/.cache"},
	)
	return j, home, private
}

func write(path, data string) op {
	return op{Do: "open", Path: path, Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, Mode: 0o640, Data: data}
}

func appendTo(path, data string) op {
	return op{Do: "open", Path: path, Flags: unix.O_WRONLY | unix.O_APPEND, Data: data}
}

func onHost(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s on the host holds %.40q, %v, want %.40q", path, b, err, want)
	}
}

func TestJailHomeFiles(t *testing.T) {
	j, home, private := homeJail(t)
	if d := j.ok(op{Do: "open", Path: home + "/.tool/state"}); d.Data != "the content of p/.tool/state" {
		t.Errorf("a file of the private home reads %q", d.Data)
	}
	if d := j.ok(op{Do: "list", Path: home}); !slices.Equal(d.Names, []string{".cache", ".tool", "src", "theirs"}) {
		t.Errorf("the home lists %q", d.Names)
	}
	if d := j.ok(op{Do: "list", Path: home + "/.tool"}); !slices.Equal(d.Names, []string{"state"}) {
		t.Errorf("a directory of the home lists %q", d.Names)
	}
	synced := write(home+"/new", "first")
	synced.Length = 1
	j.ok(synced)
	j.ok(appendTo(home+"/new", " second"))
	onHost(t, private+"/new", "first second")
	if d := j.ok(op{Do: "open", Path: home + "/new"}); d.Data != "first second" {
		t.Errorf("a new file reads %q", d.Data)
	}
	if d := j.ok(op{Do: "stat", Path: home + "/new"}); !strings.HasPrefix(d.Data, "100640 nlink=1 uid=0 ") || d.N != 12 {
		t.Errorf("a new file stats as %s of %d bytes", d.Data, d.N)
	}
	big := strings.Repeat("0123456789abcdef", 40<<10)
	j.ok(write(home+"/big", big))
	onHost(t, private+"/big", big)
	if d := j.ok(op{Do: "open", Path: home + "/big"}); d.Data != big {
		t.Errorf("a big file reads %d bytes", len(d.Data))
	}
	j.ok(op{Do: "truncate", Path: home + "/big", Length: 5})
	onHost(t, private+"/big", "01234")
	j.expect(op{Do: "exec", Path: home + "/new"}, unix.EACCES) // no mode to be executed
	j.ok(op{Do: "chmod", Path: home + "/new", Mode: 0o700})
	j.expect(op{Do: "exec", Path: home + "/new"}, unix.ENOEXEC) // it was read, and is no program
	j.ok(op{Do: "utimes", Path: home + "/new", N: 12345})
	if d := j.ok(op{Do: "stat", Path: home + "/new"}); d.Data != "100700 nlink=1 uid=0 mtime=12345" {
		t.Errorf("after chmod and utimes it stats as %s", d.Data)
	}
	j.ok(op{Do: "chown", Path: home + "/new", N: 0})
	j.expect(op{Do: "chmod", Path: home + "/new", Mode: 0o4755}, unix.EPERM, "file chmod "+home+"/new EPERM")
	j.expect(op{Do: "setxattr", Path: home + "/new", Data: "user.x"}, unix.EOPNOTSUPP)
	j.expect(op{Do: "getxattr", Path: home + "/new", Data: "user.x"}, unix.ENODATA)
	if d := j.ok(op{Do: "holes", Path: home + "/map", Length: 1 << 16, Data: "mapped"}); d.N != 0 {
		t.Errorf("data starts at %d", d.N)
	}
	if b, err := os.ReadFile(private + "/map"); err != nil || len(b) != 1<<16+1 || !strings.HasPrefix(string(b), "mapped") {
		t.Errorf("through a shared mapping the host got %d bytes, %v", len(b), err)
	}
	j.ok(op{Do: "statfs", Path: home})
	j.ok(write(home+"/.cache/native", "n"))
	onHost(t, private+"/.cache/native", "n")
}

func TestJailHomeNames(t *testing.T) {
	j, home, private := homeJail(t)
	j.ok(op{Do: "mkdir", Path: home + "/d", Mode: 0o775})
	j.ok(op{Do: "mkdir", Path: home + "/d/e", Mode: 0o700})
	j.ok(write(home+"/d/e/f", "f"))
	if d := j.ok(op{Do: "stat", Path: home + "/d"}); !strings.HasPrefix(d.Data, "40775 ") {
		t.Errorf("a new directory stats as %s", d.Data)
	}
	j.ok(op{Do: "rename", Path: home + "/d/e", Path2: home + "/moved"})
	onHost(t, private+"/moved/f", "f")
	j.ok(write(home+"/moved/f", "g")) // the kernel still knows the directory by its old node
	onHost(t, private+"/moved/f", "g")
	j.ok(write(home+"/tmp", "new"))
	j.ok(op{Do: "rename", Path: home + "/tmp", Path2: home + "/moved/f"})
	onHost(t, private+"/moved/f", "new")
	j.expect(op{Do: "rename", Path: home + "/theirs", Path2: home + "/moved/f", Flags: unix.RENAME_NOREPLACE}, unix.EEXIST)
	j.ok(op{Do: "rename", Path: home + "/theirs", Path2: home + "/moved/f", Flags: unix.RENAME_EXCHANGE})
	onHost(t, private+"/theirs", "new")
	j.expect(op{Do: "rename", Path: home + "/theirs", Path2: home + "/x", Flags: unix.RENAME_WHITEOUT}, unix.EINVAL)

	j.ok(op{Do: "symlink", Path: "moved/f", Path2: home + "/ln"})
	if d := j.ok(op{Do: "readlink", Path: home + "/ln"}); d.Data != "moved/f" {
		t.Errorf("a new link leads to %q", d.Data)
	}
	if d := j.ok(op{Do: "open", Path: home + "/ln"}); d.Data != "the content of p/theirs" {
		t.Errorf("through a new link it reads %q", d.Data)
	}
	j.ok(op{Do: "link", Path: home + "/theirs", Path2: home + "/hard"})
	a, b := j.ok(op{Do: "inode", Path: home + "/theirs"}), j.ok(op{Do: "inode", Path: home + "/hard"})
	if a.N != b.N {
		t.Errorf("two names of one file have inodes %d and %d", a.N, b.N)
	}
	j.ok(op{Do: "mknod", Path: home + "/fifo", Mode: unix.S_IFIFO | 0o600})
	j.ok(op{Do: "bind", Path: home + "/sock"})
	j.expect(op{Do: "connect", Path: home + "/sock"}, unix.ECONNREFUSED) // nobody listens any more
	j.expect(op{Do: "rmdir", Path: home + "/moved"}, unix.ENOTEMPTY)
	j.ok(op{Do: "unlink", Path: home + "/moved/f"})
	j.ok(op{Do: "rmdir", Path: home + "/moved"})
	j.expect(op{Do: "open", Path: home + "/moved/f"}, unix.ENOENT)
	j.expect(op{Do: "open", Path: home, Flags: unix.O_TMPFILE | unix.O_RDWR}, unix.EOPNOTSUPP)
	for i := range 2000 {
		if err := os.WriteFile(fmt.Sprintf("%s/d/%04d", private, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d := j.ok(op{Do: "list", Path: home + "/d"}); len(d.Names) != 2000 || !slices.IsSorted(d.Names) || d.Names[1999] != "1999" {
		t.Errorf("a big directory lists %d names", len(d.Names))
	}
}

func TestJailHomeHidden(t *testing.T) {
	j, home, private := homeJail(t)
	config := home + "/.gitconfig"
	j.expect(op{Do: "open", Path: config}, unix.ENOENT, "file open-read "+config+" ENOENT")
	j.expect(op{Do: "open", Path: home + "/.ssh/id_rsa"}, unix.ENOENT, "file open-read "+home+"/.ssh/id_rsa ENOENT")
	j.expect(op{Do: "list", Path: home + "/.ssh"}, unix.EACCES, "file list "+home+"/.ssh EACCES")
	j.expect(op{Do: "open", Path: home + "/src/other/file"}, unix.ENOENT, "file open-read "+home+"/src/other/file ENOENT")
	j.expect(op{Do: "open", Path: home + "/.none"}, unix.ENOENT)

	// A name of the host's home is not made, in whatever way.
	j.expect(write(config, "x"), unix.EACCES, "file create "+config+" EACCES")
	j.expect(op{Do: "rename", Path: home + "/theirs", Path2: config}, unix.EACCES, "file rename "+config+" EACCES")
	j.expect(op{Do: "link", Path: home + "/theirs", Path2: config}, unix.EACCES, "file link "+config+" EACCES")
	j.expect(op{Do: "symlink", Path: "theirs", Path2: config}, unix.EACCES, "file symlink "+config+" EACCES")
	j.expect(op{Do: "mkdir", Path: home + "/.ssh"}, unix.EEXIST, "file mkdir "+home+"/.ssh EEXIST")
	j.expect(write(home+"/.ssh/config", "x"), unix.EACCES, "file create "+home+"/.ssh/config EACCES")
	j.expect(op{Do: "mkdir", Path: home + "/src/other/x"}, unix.EACCES, "file mkdir "+home+"/src/other/x EACCES")
	j.expect(op{Do: "rename", Path: home + "/theirs", Path2: home + "/src/other"}, unix.EISDIR)

	// A name that is declared to be the private home's own is, and so is what the host's home does not have.
	j.expect(op{Do: "open", Path: home + "/own"}, unix.ENOENT, "file open-read "+home+"/own ENOENT")
	j.ok(op{Do: "mkdir", Path: home + "/own", Mode: 0o700})
	j.ok(write(home+"/own/file", "mine"))
	onHost(t, private+"/own/file", "mine")
	onHost(t, home+"/own/file", "the content of home/own/file")

	// An ancestor of a grant is made in the private home when something is made in it.
	j.ok(op{Do: "access", Path: home + "/src", Mode: unix.W_OK})
	j.ok(write(home+"/src/notes", "n"))
	onHost(t, private+"/src/notes", "n")
	if d := j.ok(op{Do: "list", Path: home + "/src"}); !slices.Equal(d.Names, []string{"notes", "project"}) {
		t.Errorf("the ancestor lists %q", d.Names)
	}
	j.expect(op{Do: "rename", Path: home + "/src", Path2: home + "/x"}, unix.EACCES, "file rename "+home+"/src EACCES")
	if _, err := os.Lstat(filepath.Join(home, "src/notes")); err == nil {
		t.Error("something was made in the host's home")
	}
}

func TestJailHomeProtected(t *testing.T) {
	j, home, private := homeJail(t)
	for _, name := range []string{".bashrc", ".config/autostart", ".local/share/systemd", ".zshenv"} {
		path := home + "/" + name
		if dir := filepath.Dir(name); dir != "." {
			for i := range strings.Split(dir, "/") {
				part := strings.Join(strings.Split(dir, "/")[:i+1], "/")
				_ = j.do(op{Do: "mkdir", Path: home + "/" + part, Mode: 0o700})
			}
		}
		j.expect(write(path, "x"), unix.EACCES, "file create "+path+" EACCES")
		j.expect(op{Do: "mkdir", Path: path}, unix.EACCES, "file mkdir "+path+" EACCES")
		j.expect(op{Do: "symlink", Path: "theirs", Path2: path}, unix.EACCES, "file symlink "+path+" EACCES")
		j.expect(op{Do: "link", Path: home + "/theirs", Path2: path}, unix.EACCES, "file link "+path+" EACCES")
		j.expect(op{Do: "rename", Path: home + "/theirs", Path2: path}, unix.EACCES, "file rename "+path+" EACCES")
	}
	// Nor by way of a directory that is moved or linked to its place.
	j.ok(op{Do: "rmdir", Path: home + "/.config"})
	j.ok(op{Do: "mkdir", Path: home + "/c", Mode: 0o700})
	j.ok(op{Do: "mkdir", Path: home + "/c/autostart", Mode: 0o700})
	j.expect(op{Do: "rename", Path: home + "/c", Path2: home + "/.config"}, unix.EACCES, "file rename "+home+"/.config EACCES")
	j.expect(op{Do: "symlink", Path: "c", Path2: home + "/.config"}, unix.EACCES, "file symlink "+home+"/.config EACCES")
	j.ok(op{Do: "symlink", Path: "c", Path2: home + "/to-c"})
	j.expect(op{Do: "rename", Path: home + "/to-c", Path2: home + "/.config"}, unix.EACCES, "file rename "+home+"/.config EACCES")
	j.ok(op{Do: "rmdir", Path: home + "/c/autostart"})
	j.ok(op{Do: "rename", Path: home + "/c", Path2: home + "/.config"})

	// One that is there, put by whoever prepared the private home, is read and not changed.
	if err := os.WriteFile(private+"/.profile", []byte("prepared"), 0o600); err != nil {
		t.Fatal(err)
	}
	profile := home + "/.profile"
	if d := j.ok(op{Do: "open", Path: profile}); d.Data != "prepared" {
		t.Errorf(".profile reads %q", d.Data)
	}
	j.expect(appendTo(profile, "x"), unix.EACCES, "file open-write "+profile+" EACCES")
	j.expect(op{Do: "truncate", Path: profile}, unix.EACCES, "file truncate "+profile+" EACCES")
	j.expect(op{Do: "chmod", Path: profile, Mode: 0o777}, unix.EACCES, "file chmod "+profile+" EACCES")
	j.expect(op{Do: "unlink", Path: profile}, unix.EACCES, "file unlink "+profile+" EACCES")
	j.expect(op{Do: "rename", Path: profile, Path2: home + "/p"}, unix.EACCES, "file rename "+profile+" EACCES")
	j.expect(op{Do: "link", Path: profile, Path2: home + "/p"}, unix.EACCES, "file link "+profile+" EACCES")
	onHost(t, private+"/.profile", "prepared")
}

// TestJailHomeEscape puts into the private home what would lead out of it, were it walked on the host.
func TestJailHomeEscape(t *testing.T) {
	j, home, private := homeJail(t)
	secret := tree(t, "secret")
	if err := os.Symlink(secret, private+"/out"); err != nil {
		t.Fatal(err)
	}
	// The kernel follows the link inside, where its target is as hidden as by its own name.
	j.expect(op{Do: "open", Path: home + "/out/secret"}, unix.ENOENT, "file open-read "+secret+"/secret ENOENT")
	j.expect(write(home+"/out/new", "x"), unix.EACCES, "file create "+secret+"/new EACCES")
	// A directory of the tree that the private home has as a link shows nothing of where that leads.
	if err := os.Symlink(secret, private+"/src"); err != nil {
		t.Fatal(err)
	}
	if d := j.ok(op{Do: "list", Path: home + "/src"}); !slices.Equal(d.Names, []string{"project"}) {
		t.Errorf("the directory lists %q", d.Names)
	}
	if d := j.do(write(home+"/src/new", "x")); d.Errno != unix.ENOTDIR && d.Errno != unix.ELOOP {
		t.Errorf("writing where a link is: %v", d.Errno)
	}
	j.events.take()
	if names, err := os.ReadDir(secret); err != nil || len(names) != 1 {
		t.Errorf("outside there is now %v, %v", names, err)
	}
}
