// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a place for a test, with what was there before the run.
type tree struct {
	*testing.T
	dir string
}

// before is the files that a tree has, name and content; with a slash at the end, a directory.
func newTree(t *testing.T, before ...string) tree {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "place")
	tr := tree{t, dir}
	tr.check(os.Mkdir(dir, 0o755))
	for _, name := range before {
		tr.write(name, "before")
	}
	return tr
}

func (tr tree) check(err error) {
	tr.Helper()
	if err != nil {
		tr.Fatal(err)
	}
}

func (tr tree) at(name string) string { return filepath.Join(tr.dir, name) }

func (tr tree) write(name, text string) {
	tr.Helper()
	tr.check(os.MkdirAll(filepath.Dir(tr.at(name)), 0o755))
	if !strings.HasSuffix(name, "/") {
		tr.check(os.WriteFile(tr.at(name), []byte(text), 0o644))
	} else {
		tr.check(os.MkdirAll(tr.at(name), 0o755))
	}
}

// open begins a watch when the clock of files has moved on from what was made before.
func (tr tree) open(bounds Bounds) *Watch {
	tr.Helper()
	for made := time.Now(); ; {
		m, err := now()
		tr.check(err)
		if m.real.After(made) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w, err := Open([]string{tr.dir}, []string{".protected"}, bounds)
	tr.check(err)
	tr.Cleanup(w.Close)
	return w
}

// learned is a watch that has seen all, and what it warned of.
func (tr tree) learned() (w *Watch, warned []string) {
	tr.Helper()
	w = tr.open(DefaultBounds)
	w.Learn(0, func(fs []Finding) { warned = tr.lines(fs) })
	<-w.learning
	return w, warned
}

// lines are findings as texts: kind, path in the place, and the count if there is one.
func (tr tree) lines(fs []Finding) []string {
	var lines []string
	for _, f := range fs {
		line := fmt.Sprintf("%s %s", f.Kind, strings.TrimPrefix(strings.TrimPrefix(f.Path, tr.dir), "/"))
		if f.Count > 0 {
			line += fmt.Sprint(" ", f.Count)
		}
		if f.Before {
			line += " before"
		}
		lines = append(lines, line)
	}
	return lines
}

func (tr tree) want(w *Watch, want ...string) {
	tr.Helper()
	if got := tr.lines(w.Report()); !slices.Equal(got, want) {
		tr.Errorf("reported %q, want %q", got, want)
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []string
		act    func(tr tree) error
		want   []string
	}{
		{"nothing", []string{"Makefile", ".git/hooks/x", "run.sh"}, func(tree) error { return nil }, nil},
		{"harmless", nil, func(tr tree) error { tr.write("a/b/note.txt", ""); return os.Symlink("b", tr.at("a/c")) }, nil},
		{"written", []string{"Makefile"}, func(tr tree) error { tr.write("Makefile", "after"); return nil }, []string{"build Makefile"}},
		{"written with an old time", []string{"Makefile"}, func(tr tree) error {
			tr.write("Makefile", "AFTER!")
			return os.Chtimes(tr.at("Makefile"), time.Unix(1, 0), time.Unix(1, 0))
		}, []string{"build Makefile"}},
		{"mode alone", []string{"tool"}, func(tr tree) error { return os.Chmod(tr.at("tool"), 0o755) }, []string{"executable tool"}},
		{"renamed into place", []string{"x"}, func(tr tree) error { return os.Rename(tr.at("x"), tr.at("justfile")) }, []string{"build justfile"}},
		{"linked into place", []string{"x"}, func(tr tree) error { return os.Link(tr.at("x"), tr.at("justfile")) }, []string{"build justfile"}},
		{"directory moved into a new one", []string{"x/Makefile"}, func(tr tree) error {
			tr.write("new/", "")
			return os.Rename(tr.at("x"), tr.at("new/y"))
		}, []string{"build new/y/Makefile"}},
		{"in a known directory", []string{"x/Makefile"}, func(tr tree) error { tr.write("x/note", ""); return nil }, nil},
		{"setuid", []string{"a"}, func(tr tree) error { return os.Chmod(tr.at("a"), 0o755|os.ModeSetuid) }, []string{"setuid a"}},
		{"fifo", nil, func(tr tree) error { return unix.Mkfifo(tr.at("Makefile"), 0o644) }, []string{"special Makefile"}},
		{"repository", nil, func(tr tree) error {
			tr.write("r/.git/config", "")
			tr.write("r/.git/hooks/a.sample", "")
			tr.write("r/.git/hooks/post-merge", "")
			return os.Chmod(tr.at("r/.git/hooks/a.sample"), 0o755)
		}, []string{"repository r/.git", "git r/.git/hooks/post-merge"}},
		{"repository by a file", nil, func(tr tree) error { tr.write(".GIT", "gitdir: x"); return nil }, []string{"repository .GIT"}},
		{"commit", []string{"r/.git/config", "r/.git/HEAD"}, func(tr tree) error { tr.write("r/.git/index", ""); return nil }, nil},
		{"hook", []string{".git/config"}, func(tr tree) error { tr.write(".git/hooks/post-merge", ""); return nil }, []string{"git .git/hooks/post-merge"}},
		{"bare", nil, func(tr tree) error {
			tr.write("b/HEAD", "")
			tr.write("b/objects/", "")
			tr.write("b/refs/", "")
			tr.write("b/hooks/update.sample", "")
			return nil
		}, []string{"repository b"}},
		{"bare by a commondir", []string{"y/objects/", "y/refs/"}, func(tr tree) error { tr.write("b/HEAD", ""); tr.write("b/commondir", "../y"); return nil },
			[]string{"repository b"}},
		{"bare by what was made", []string{"b/objects/", "b/refs/", "b/config"}, func(tr tree) error { tr.write("b/HEAD", ""); return nil },
			[]string{"repository b"}},
		{"bare by what was renamed", []string{"b/objs/", "b/refs/", "b/config", "b/HEAD"}, func(tr tree) error { return os.Rename(tr.at("b/objs"), tr.at("b/objects")) },
			[]string{"repository b"}},
		{"bare, written to", []string{"b/objects/", "b/refs/heads/", "b/config", "b/HEAD"}, func(tr tree) error {
			tr.write("b/objects/ab/cd", "")
			tr.write("b/refs/heads/x", "")
			return nil
		}, nil},
		{"a directory's new name", []string{"x/pre-commit", "z/workflows/a.yml", "w/Makefile"}, func(tr tree) error {
			return errors.Join(os.Rename(tr.at("x"), tr.at(".husky")), os.Rename(tr.at("z"), tr.at(".github")), os.Rename(tr.at("w"), tr.at("tools")))
		}, []string{"build .husky", "ci .github"}},
		{"a directory's old name", []string{"bin/.husky/x", "bin/.cargo/config.toml", "bin/y/activate"}, func(tr tree) error { tr.write("bin/new", ""); return nil }, nil},
		{"names that mean nothing of a directory", nil, func(tr tree) error { tr.write("build/x.o", ""); tr.write("src/BUILD", ""); return nil }, []string{"build src/BUILD"}},
		{"settings", nil, func(tr tree) error { tr.write("a/.vscode/x/y", ""); tr.write("a/.protected", ""); return nil },
			[]string{"settings a/.protected", "settings a/.vscode/x/y"}},
		{"packages", nil, func(tr tree) error {
			tr.write("node_modules/a/package.json", "{")
			tr.write("node_modules/a/b", "")
			tr.write("lib/site-packages/a.pth", "")
			return nil
		}, []string{"build lib/site-packages/a.pth", "dependencies node_modules 2"}},
		{"no scripts", nil, func(tr tree) error { tr.write("package.json", `{"name": "x"}`); return nil }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t, c.before...)
			w := tr.open(DefaultBounds)
			tr.check(c.act(tr))
			tr.want(w, c.want...)
		})
	}
}

func TestSymlinks(t *testing.T) {
	for target, out := range map[string]bool{
		"file": false, "../file": false, "../dir/../file": false, "missing": false, "loop": false, "PLACE/file": false, "PLACE/dir": false,
		"/etc/passwd": true, "../../x": true, "missing/../../../x": true, "../up/..": true, "PLACE/../x": true, "PLACEx": true, "/": true, "../out/x": true,
	} {
		t.Run(target, func(t *testing.T) {
			tr := newTree(t, "file", "dir/")
			tr.check(os.Symlink(".", tr.at("up")))
			tr.check(os.Symlink("/usr", tr.at("out")))
			w := tr.open(DefaultBounds)
			tr.check(os.Symlink(strings.ReplaceAll(target, "PLACE", tr.dir), tr.at("dir/loop")))
			want := []string{"symlink out before"}
			if out {
				want = []string{"symlink dir/loop", "symlink out before"}
			}
			tr.want(w, want...)
		})
	}
}

// TestBehindSymlinks: what a link of a name that means something leads to counts by that name, also where that link was there before.
func TestBehindSymlinks(t *testing.T) {
	tr := newTree(t, "mk", "mk2", "conf/", "conf/x")
	for name, target := range map[string]string{"Makefile": "mk", "sub": "conf", "GNUmakefile": tr.at("conf/../mk"), "plain": "mk", "justfile": "mk2", "x.mk": "none"} {
		tr.check(os.Symlink(target, tr.at(name)))
	}
	w := tr.open(DefaultBounds)
	tr.write("mk", "after")
	tr.write("conf/config.toml", "")
	tr.check(os.Symlink("conf", tr.at(".cargo")))
	tr.check(os.Symlink("conf", tr.at("cargo")))
	tr.want(w, "build .cargo", "build GNUmakefile", "build Makefile")
}

func TestHardLinks(t *testing.T) {
	tr := newTree(t, "old", "changed", "both")
	tr.check(os.Mkdir(tr.dir+".out", 0o755))
	tr.check(os.Link(tr.at("old"), tr.dir+".out/old"))
	tr.check(os.Link(tr.at("changed"), tr.dir+".out/changed"))
	tr.check(os.Link(tr.at("both"), tr.at("both2")))
	w, warned := tr.learned()
	if want := []string{"hardlink changed 2 before"}; !slices.Equal(warned, want) {
		t.Errorf("warned of %q, want %q", warned, want)
	}
	tr.write("changed", "after")
	tr.write("both", "after")
	tr.want(w, "hardlink changed")
}

func TestLearn(t *testing.T) {
	tr := newTree(t, "Makefile", "justfile", "d/x", "moved/Makefile", "setup.py")
	tr.check(os.Symlink("/etc", tr.at("d/etc")))
	w, warned := tr.learned()
	if want := []string{"symlink d/etc before"}; !slices.Equal(warned, want) {
		t.Errorf("warned of %q, want %q", warned, want)
	}
	tr.check(os.Chtimes(tr.at("Makefile"), time.Now(), time.Now()))
	tr.write("justfile", "evil")
	tr.write("justfile", "before")
	tr.write("setup.py", "BEFORE") // of the same size
	tr.check(os.Rename(tr.at("moved"), tr.at("d/away")))
	tr.want(w, "build d/away/Makefile", "build setup.py")
}

// What was changed before Learn saw it was not so at the start.
func TestLearnLate(t *testing.T) {
	tr := newTree(t, "Makefile", "setup.py")
	w := tr.open(DefaultBounds)
	tr.write("Makefile", "evil")
	tr.check(os.Symlink("/etc", tr.at("etc")))
	w.Learn(0, func(fs []Finding) {
		if len(fs) > 0 {
			t.Errorf("warned of %q", tr.lines(fs))
		}
	})
	<-w.learning
	tr.want(w, "symlink etc", "build Makefile")
}

// What is changed while Learn reads it is not taken for what it was at the start.
func TestLearnMeanwhile(t *testing.T) {
	tr := newTree(t, "Makefile")
	w := tr.open(DefaultBounds)
	before, err := stat(w.places[0].fd, "Makefile")
	tr.check(err)
	tr.write("Makefile", "evil")
	k := w.walker(w.began.real, w.stop)
	k.learn(file{in: w.places[0].dir(), fd: w.places[0].fd, name: "Makefile", st: before})
	tr.want(w, "build Makefile")
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		bounds func(*Bounds)
		want   []string
	}{
		{"files", func(b *Bounds) { b.Files = 3 }, []string{"truncated "}},
		{"names", func(b *Bounds) { b.Dir = 3 }, []string{"truncated "}},
		{"depth", func(b *Bounds) { b.Depth = 1 }, []string{"truncated a/b"}},
		{"none", func(*Bounds) {}, []string{"build a/b/Makefile"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t, "1", "2", "3", "a/b/")
			bounds := DefaultBounds
			c.bounds(&bounds)
			w := tr.open(bounds)
			tr.write("a/b/Makefile", "")
			got := tr.lines(w.Report())
			if c.name == "names" { // which of them come first is the file system's
				got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "build") })
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("reported %q, want %q", got, c.want)
			}
		})
	}
}

func TestMany(t *testing.T) {
	tr := newTree(t)
	w := tr.open(DefaultBounds)
	for i := range maxFindings + 10 {
		tr.write(fmt.Sprintf("%d.mk", i), "")
	}
	tr.check(unix.Mkfifo(tr.at("zzz"), 0o644))
	fs := w.Report()
	if len(fs) != maxFindings+2 || fs[0].Kind != Special || fs[len(fs)-1].Kind != Truncated || fs[len(fs)-1].Count != 10 {
		t.Errorf("%d findings, first %v, last %v", len(fs), fs[0], fs[len(fs)-1])
	}
}

func TestUnread(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	tr := newTree(t)
	w := tr.open(DefaultBounds)
	tr.write("a/Makefile", "")
	tr.check(os.Chmod(tr.at("a"), 0))
	tr.want(w, "unread a")
	tr.check(os.Chmod(tr.at("a"), 0o755))
}

func TestDeep(t *testing.T) {
	tr := newTree(t)
	w := tr.open(DefaultBounds)
	top, err := os.Getwd()
	tr.check(err)
	defer os.Chdir(top)
	tr.check(os.Chdir(tr.dir))
	name := strings.Repeat("d", 200)
	for range 30 {
		tr.check(os.Mkdir(name, 0o755))
		tr.check(os.Chdir(name))
	}
	got := tr.lines(w.Report())
	if len(got) != 1 || !strings.HasPrefix(got[0], "truncated "+name) {
		t.Errorf("reported %.300q", got)
	}
	tr.check(os.Chdir(top))
	os.RemoveAll(tr.dir)
}

func TestPlaces(t *testing.T) {
	tr := newTree(t, "a/file", "b/Makefile")
	w, err := Open([]string{tr.at("b/Makefile"), tr.at("a"), tr.at("a/file"), tr.at("missing")}, nil, DefaultBounds)
	tr.check(err)
	defer w.Close()
	tr.write("b/setup.py", "") // beside a place
	tr.write("b/Makefile", "after")
	tr.check(os.Rename(tr.at("a"), tr.at("elsewhere"))) // by the host: the run still has it
	tr.write("elsewhere/justfile", "")
	tr.want(w, "build a/justfile", "build b/Makefile")
}

// TestLearnNever: a run that ends before it has begun to learn reports at once, and warns at its end.
func TestLearnNever(t *testing.T) {
	tr := newTree(t, "Makefile")
	tr.check(os.Symlink("/etc", tr.at("etc")))
	w := tr.open(DefaultBounds)
	w.Learn(time.Hour, func([]Finding) { t.Error("it has learned") })
	tr.want(w, "symlink etc before")
}
