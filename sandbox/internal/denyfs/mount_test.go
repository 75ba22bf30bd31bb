// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// granted starts a jail with a host of a few files, of which one directory and one file are granted.
func granted(t *testing.T) (*jail, string) {
	t.Helper()
	h := tree(t, "work/file", "work/.env", "work/secrets/key", "etc/passwd", "etc/shadow", "etc/deep/er/file", "bin/tool", "run/sock")
	if err := os.Chmod(h+"/bin/tool", 0o755); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Grants:   []Grant{{Path: h + "/work", Dir: true}, {Path: h + "/etc/passwd"}},
		Symlinks: map[string]string{h + "/wk": "work", "/lib": "usr/lib"},
		Hidden:   []Hide{{Path: h + "/work/.env"}, {Path: h + "/work/secrets", Dir: true}},
	}
	return start(t, c,
		bind{h + "/work", "root" + h + "/work"},
		bind{h + "/etc/passwd", "root" + h + "/etc/passwd"},
	), h
}

func TestJailGranted(t *testing.T) {
	j, h := granted(t)
	if d := j.ok(op{Do: "open", Path: h + "/work/file"}); d.Data != "the content of work/file" {
		t.Errorf("a granted file reads %q", d.Data)
	}
	if d := j.ok(op{Do: "open", Path: h + "/wk/file"}); d.Data != "the content of work/file" {
		t.Errorf("through the tree's link it reads %q", d.Data)
	}
	j.ok(op{Do: "open", Path: h + "/work/new", Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600, Data: "x"})
	if _, err := os.Stat(h + "/work/new"); err != nil {
		t.Error("a file made in a grant is not on the host:", err)
	}
	if d := j.ok(op{Do: "list", Path: h}); !slices.Equal(d.Names, []string{"etc", "wk", "work"}) {
		t.Errorf("an ancestor lists %q", d.Names)
	}
	for _, dir := range []string{"/", h, h + "/etc"} {
		if d := j.ok(op{Do: "stat", Path: dir}); !strings.HasPrefix(d.Data, "40555 nlink=2 uid=0 ") {
			t.Errorf("stat %s: %s", dir, d.Data)
		}
		j.ok(op{Do: "chdir", Path: dir})
		j.ok(op{Do: "access", Path: dir, Mode: unix.R_OK | unix.X_OK})
		j.expect(op{Do: "mkdir", Path: dir}, unix.EEXIST)
		j.ok(op{Do: "watch", Path: dir})
		j.expect(op{Do: "getxattr", Path: dir, Data: "user.x"}, unix.ENODATA)
	}
	if d := j.ok(op{Do: "readlink", Path: "/lib"}); d.Data != "usr/lib" {
		t.Errorf("/lib leads to %q", d.Data)
	}
	if d := j.ok(op{Do: "statfs", Path: h}); d.N != 255 {
		t.Errorf("statfs: names of %d bytes", d.N)
	}
}

func TestJailDenied(t *testing.T) {
	j, h := granted(t)
	shadow, through := h+"/etc/shadow", h+"/etc/deep/er"
	sys := func(do string) op { return op{Do: do, Path: shadow} }
	j.expect(sys("open"), unix.ENOENT, "file open-read "+shadow+" ENOENT")
	j.expect(op{Do: "open", Path: shadow, Flags: unix.O_RDWR}, unix.ENOENT, "file open-write "+shadow+" ENOENT")
	j.expect(sys("openat2"), unix.ENOENT, "file open "+shadow+" ENOENT")
	j.expect(sys("stat"), unix.ENOENT, "file stat "+shadow+" ENOENT")
	j.expect(sys("access"), unix.ENOENT, "file access "+shadow+" ENOENT")
	j.expect(sys("readlink"), unix.ENOENT, "file readlink "+shadow+" ENOENT")
	j.expect(op{Do: "exec", Path: h + "/bin/tool"}, unix.ENOENT, "exec exec "+h+"/bin/tool ENOENT")
	j.expect(op{Do: "connect", Path: h + "/run/sock"}, unix.ENOENT, "unix connect "+h+"/run/sock ENOENT")
	j.expect(sys("unlink"), unix.ENOENT, "file unlink "+shadow+" ENOENT")
	j.expect(sys("chmod"), unix.ENOENT, "file chmod "+shadow+" ENOENT")
	j.expect(sys("truncate"), unix.ENOENT, "file truncate "+shadow+" ENOENT")
	j.expect(sys("watch"), unix.ENOENT, "file watch "+shadow+" ENOENT")
	j.expect(op{Do: "getxattr", Path: shadow, Data: "user.x"}, unix.ENOENT, "file xattr "+shadow+" ENOENT")
	j.expect(op{Do: "chdir", Path: shadow}, unix.ENOENT, "file chdir "+shadow+" ENOENT")

	// Other spellings of the same place.
	j.expect(op{Do: "open", Path: h + "/work/../etc//./shadow"}, unix.ENOENT, "file open-read "+shadow+" ENOENT")
	j.ok(op{Do: "symlink", Path: "../etc", Path2: h + "/work/alias"})
	j.expect(op{Do: "open", Path: h + "/work/alias/shadow"}, unix.ENOENT, "file open-read "+shadow+" ENOENT")
	j.ok(op{Do: "symlink", Path: shadow, Path2: h + "/work/direct"})
	j.expect(op{Do: "open", Path: h + "/work/direct"}, unix.ENOENT, "file open-read "+shadow+" ENOENT")

	// A directory can be walked and its being there seen, and no more.
	j.ok(op{Do: "stat", Path: through})
	j.ok(op{Do: "access", Path: through, Mode: unix.X_OK})
	j.expect(op{Do: "open", Path: through + "/file"}, unix.ENOENT, "file open-read "+through+"/file ENOENT")
	j.expect(op{Do: "list", Path: through}, unix.EACCES, "file list "+through+" EACCES")
	j.expect(op{Do: "chdir", Path: through}, unix.EACCES, "file chdir "+through+" EACCES")
	j.expect(op{Do: "access", Path: through, Mode: unix.R_OK}, unix.EACCES, "file access "+through+" EACCES")
	j.expect(op{Do: "getxattr", Path: through, Data: "user.x"}, unix.EACCES, "file xattr "+through+" EACCES")
	j.expect(op{Do: "watch", Path: through}, 0, "file watch "+through)
	j.expect(op{Do: "chmod", Path: through, Mode: 0o777}, unix.EACCES, "file chmod "+through+" EACCES")
	j.expect(op{Do: "rmdir", Path: through}, unix.EACCES, "file rmdir "+through+" EACCES")

	// What the host does not have is no attempt on anything.
	j.expect(op{Do: "open", Path: h + "/etc/none"}, unix.ENOENT)
	j.expect(op{Do: "open", Path: through + "/none/none"}, unix.ENOENT)
	j.expect(op{Do: "open", Path: h + "/" + strings.Repeat("n", 300)}, unix.ENAMETOOLONG)
}

func TestJailCreate(t *testing.T) {
	j, h := granted(t)
	create := func(path string) op {
		return op{Do: "open", Path: path, Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600}
	}
	shadow, none, through := h+"/etc/shadow", h+"/etc/none", h+"/etc/deep"
	for _, path := range []string{shadow, none, through + "/none", "/new"} {
		j.expect(create(path), unix.EACCES, "file create "+path+" EACCES")
		j.expect(op{Do: "mkdir", Path: path, Mode: 0o700}, unix.EACCES, "file mkdir "+path+" EACCES")
		j.expect(op{Do: "symlink", Path: "x", Path2: path}, unix.EACCES, "file symlink "+path+" EACCES")
		j.expect(op{Do: "mknod", Path: path, Mode: unix.S_IFIFO | 0o600}, unix.EACCES, "file mknod "+path+" EACCES")
		j.expect(op{Do: "bind", Path: path}, unix.EACCES, "unix bind "+path+" EACCES")
	}
	j.expect(op{Do: "openat2", Path: none, Flags: unix.O_CREAT | unix.O_RDWR}, unix.EACCES, "file create "+none+" EACCES")
	j.expect(op{Do: "open", Path: h + "/etc", Flags: unix.O_TMPFILE | unix.O_RDWR}, unix.EACCES, "file create "+h+"/etc EACCES")

	// The kernel answers EEXIST by itself, for what we said is a directory.
	j.expect(op{Do: "mkdir", Path: through}, unix.EEXIST, "file mkdir "+through+" EEXIST")
	// It never comes back to create what is below a file.
	j.expect(create(shadow+"/below"), unix.ENOENT, "file open-write "+shadow+" ENOENT")
	// Two calls in a row are two attempts, and a walk through the first is none of its own.
	j.expect(op{Do: "twice", Path: through, Path2: through + "/er"}, unix.EEXIST,
		"file mkdir "+through+" EEXIST", "file mkdir "+through+"/er EEXIST")

	j.expect(op{Do: "rename", Path: shadow, Path2: h + "/etc/x"}, unix.ENOENT, "file rename "+shadow+" ENOENT")
	j.expect(op{Do: "rename", Path: through, Path2: h + "/etc/x"}, unix.EACCES, "file rename "+through+" EACCES")
	j.expect(op{Do: "link", Path: shadow, Path2: h + "/work/l"}, unix.ENOENT, "file link "+shadow+" ENOENT")
	j.expect(op{Do: "access", Path: "/", Mode: unix.W_OK}, unix.EACCES, "file access / EACCES")
	j.expect(op{Do: "chmod", Path: h + "/etc", Mode: 0o777}, unix.EACCES, "file chmod "+h+"/etc EACCES")
	j.expect(op{Do: "setxattr", Path: h + "/etc", Data: "user.x"}, unix.EACCES, "file xattr "+h+"/etc EACCES")
	if _, err := os.Lstat(none); err == nil {
		t.Error("something was made on the host")
	}
}

// A call at a directory, and one for a name in it that begins there: both are reported, whatever the second one finds.
func TestJailWithin(t *testing.T) {
	j, h := granted(t)
	dir := h + "/etc/deep/er"
	within := func(calls, name string) op { return op{Do: "within", Path: dir, Path2: name, Data: calls} }
	open, missing := "file open-read "+dir+"/file ENOENT", "missing"
	for first, event := range map[string]string{"mkdir": "file mkdir " + dir + " EEXIST", "symlink": "file symlink " + dir + " EEXIST", "watch": "file watch " + dir} {
		errno := unix.EEXIST
		if first == "watch" {
			errno = 0
		}
		j.expect(within(first+" open", "file"), errno, event, open)
		j.expect(within(first+" open", missing), errno, event)
		j.expect(within(first+" open", "."), errno, event, "file list "+dir+" EACCES")
	}
	mkdir := "file mkdir " + dir + " EEXIST"
	j.expect(within("mkdirat mkdirat", missing), unix.EEXIST, mkdir, "file mkdir "+dir+"/missing EACCES")
	// The twins: one call for the name, wherever it begins.
	j.expect(op{Do: "mkdir", Path: dir + "/missing"}, unix.EACCES, "file mkdir "+dir+"/missing EACCES")
	j.expect(op{Do: "symlink", Path: "x", Path2: dir + "/missing"}, unix.EACCES, "file symlink "+dir+"/missing EACCES")
	j.expect(op{Do: "watch", Path: dir + "/file"}, unix.ENOENT, "file watch "+dir+"/file ENOENT")
	j.expect(within(" mkdirat", missing), 0, "file mkdir "+dir+"/missing EACCES")
	j.expect(within(" mkdirat", "missing/.."), 0)
}

func TestJailHidden(t *testing.T) {
	h := tree(t, "work/file", "work/.env", "work/secrets/key", "work/secrets/more/")
	env, secrets := h+"/work/.env", h+"/work/secrets"
	c := Config{
		Grants: []Grant{{Path: h + "/work", Dir: true}},
		Hidden: []Hide{{Path: env}, {Path: secrets, Dir: true}},
	}
	j := start(t, c, bind{h + "/work", "root" + h + "/work"}, bind{"hidden:0", "root" + env}, bind{"hidden:1", "root" + secrets})
	if d := j.ok(op{Do: "stat", Path: env}); !strings.HasPrefix(d.Data, "100111 nlink=1") || d.N != 0 {
		t.Errorf("a hidden file stats as %s of %d bytes", d.Data, d.N)
	}
	j.ok(op{Do: "open", Path: h + "/work/file"})
	j.expect(op{Do: "open", Path: env}, unix.EACCES, "file open-read "+env+" EACCES")
	j.expect(op{Do: "open", Path: env, Flags: unix.O_WRONLY}, unix.EACCES, "file open-write "+env+" EACCES")
	j.expect(op{Do: "open", Path: env, Flags: unix.O_CREAT | unix.O_WRONLY}, unix.EACCES, "file open-write "+env+" EACCES")
	j.expect(op{Do: "truncate", Path: env}, unix.EACCES, "file truncate "+env+" EACCES")
	j.expect(op{Do: "chmod", Path: env, Mode: 0o777}, unix.EACCES, "file chmod "+env+" EACCES")
	j.expect(op{Do: "access", Path: env, Mode: unix.R_OK}, unix.EACCES, "file access "+env+" EACCES")
	j.expect(op{Do: "getxattr", Path: env, Data: "user.x"}, unix.EACCES, "file xattr "+env+" EACCES")
	j.expect(op{Do: "exec", Path: env}, unix.EACCES, "exec exec "+env+" EACCES")
	j.expect(op{Do: "unlink", Path: env}, unix.EBUSY)
	j.expect(op{Do: "list", Path: secrets}, unix.EACCES, "file list "+secrets+" EACCES")
	j.expect(op{Do: "open", Path: secrets + "/key"}, unix.ENOENT, "file open-read "+secrets+"/key ENOENT")
	j.expect(op{Do: "list", Path: secrets + "/more"}, unix.EACCES, "file list "+secrets+"/more EACCES")
	j.expect(op{Do: "mkdir", Path: secrets + "/new"}, unix.EACCES, "file mkdir "+secrets+"/new EACCES")
	j.expect(op{Do: "chdir", Path: secrets}, unix.EACCES, "file chdir "+secrets+" EACCES")
	if b, err := os.ReadFile(filepath.Join(h, "work/.env")); err != nil || string(b) != "the content of work/.env" {
		t.Errorf("on the host it is now %q, %v", b, err)
	}
}

// TestJailShown: what is hidden shows the way to the places that are granted in it, and nothing else of the host or of the private home.
func TestJailShown(t *testing.T) {
	h := tree(t, "work/secrets/key", "work/secrets/more/key", "work/secrets/more/shown/file", "work/secrets/one", "work/secrets/two/", "home/work/secrets/own")
	secrets := h + "/work/secrets"
	c := Config{
		Grants: []Grant{{Path: h + "/work", Dir: true}},
		Hidden: []Hide{{Path: secrets, Dir: true, Shown: []Grant{{secrets + "/more/shown", true}, {secrets + "/one", false}, {secrets + "/more/shown/file", false}}}},
		Home:   HomeConfig{Path: h + "/elsewhere", Private: h + "/home"},
	}
	j := start(t, c, bind{h + "/work", "root" + h + "/work"}, bind{"hidden:0", "root" + secrets},
		bind{secrets + "/more/shown", "root" + secrets + "/more/shown"}, bind{secrets + "/one", "root" + secrets + "/one"})
	for dir, want := range map[string]string{"": "more one", "/more": "shown", "/more/shown": "file"} {
		if d := j.ok(op{Do: "list", Path: secrets + dir}); strings.Join(d.Names, " ") != want {
			t.Errorf("%q lists %q, want %s", dir, d.Names, want)
		}
	}
	j.ok(op{Do: "open", Path: secrets + "/more/shown/file"})
	j.ok(op{Do: "open", Path: secrets + "/one"})
	j.expect(op{Do: "open", Path: secrets + "/key"}, unix.ENOENT, "file open-read "+secrets+"/key ENOENT")
	j.expect(op{Do: "open", Path: secrets + "/more/shown/../key"}, unix.ENOENT, "file open-read "+secrets+"/more/key ENOENT")
	j.expect(op{Do: "list", Path: secrets + "/two"}, unix.EACCES, "file list "+secrets+"/two EACCES")
	j.expect(op{Do: "mkdir", Path: secrets + "/new"}, unix.EACCES, "file mkdir "+secrets+"/new EACCES")
	j.expect(op{Do: "symlink", Path: "x", Path2: secrets + "/more/new"}, unix.EACCES, "file symlink "+secrets+"/more/new EACCES")
	j.expect(op{Do: "rename", Path: secrets + "/more", Path2: secrets + "/less"}, unix.EACCES, "file rename "+secrets+"/more EACCES")
	j.expect(op{Do: "unlink", Path: secrets + "/one"}, unix.EBUSY)
}
