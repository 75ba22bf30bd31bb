// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/denyfs"
)

func TestFurnish(t *testing.T) {
	real, private, caches, out := t.TempDir(), filepath.Join(t.TempDir(), "homes", "base"), filepath.Join(t.TempDir(), "caches", "base", "x"), t.TempDir()
	home := Home{Private: private, Caches: caches, Dirs: []string{".cache", "go/pkg"}, Names: []string{".deno", ".none", ".out", ".gone"}}
	for _, name := range []string{".deno", ".out", ".gone"} {
		if err := os.Mkdir(filepath.Join(real, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{".out": out + "/made", ".gone": "nothing"} {
		if err := os.Symlink(to, filepath.Join(private, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if obstructed, err := home.furnish(real); err != nil || len(obstructed) > 0 {
			t.Fatal(obstructed, err)
		}
	}
	for path, want := range map[string]bool{
		caches + "/.cache": true, caches + "/go/pkg": true, private + "/.cache": false, private + "/.deno": true, private + "/.none": false, private + "/nothing": false,
	} {
		info, err := os.Lstat(path)
		if got := err == nil && info.IsDir(); got != want {
			t.Errorf("%s is a directory: %v, want %v", path, got, want)
		}
	}
	if _, err := os.Lstat(out + "/made"); err == nil {
		t.Error("a directory was made beyond a symbolic link of an earlier command")
	}
}

// TestFurnishWay: the private home has the directories in which the real one keeps credentials, so that a look at one is on record by its
// own name; but none that the command may not make, none that the real home lacks, and none in a cache.
func TestFurnishWay(t *testing.T) {
	real, private := t.TempDir(), t.TempDir()
	home := Home{Private: private, Caches: t.TempDir(), Dirs: []string{".cache"}, Names: []string{".cache", ".config", ".local"}}
	for _, name := range []string{".config/git", ".config/other", ".local/share/opencode", ".cache/huggingface", ".docker"} {
		if err := os.MkdirAll(filepath.Join(real, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := home.furnish(real); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		".config/git": true, ".local/share/opencode": true, ".config/other": false, ".config/pip": false, ".cache/huggingface": false, ".docker": false,
	} {
		info, err := os.Lstat(filepath.Join(private, name))
		if got := err == nil && info.IsDir(); got != want {
			t.Errorf("%s is a directory: %v, want %v", name, got, want)
		}
	}
}

// TestFurnishObstacle: what earlier commands put in the place of a directory that is mounted is left alone, and the directory is
// not mounted; a link there leads nowhere.
func TestFurnishObstacle(t *testing.T) {
	out := t.TempDir()
	for what, put := range map[string]func(path string) error{
		"a file":                func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a link out":            func(path string) error { return os.Symlink(out, path) },
		"a link to a directory": func(path string) error { return os.Symlink(".other", path) },
		"a dangling link":       func(path string) error { return os.Symlink("nothing", path) },
	} {
		for _, where := range []string{"homes", "caches"} {
			dir := t.TempDir()
			home := Home{Private: dir + "/homes", Caches: dir + "/caches", Dirs: []string{"go", "go/pkg", ".cache"}}
			if err := os.MkdirAll(filepath.Join(dir, where, ".other"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := put(filepath.Join(dir, where, "go")); err != nil {
				t.Fatal(err)
			}
			if got, err := home.furnish("/"); err != nil || !slices.Equal(got, home.Dirs[:2]) {
				t.Errorf("%s in %s: %v, %v, want %v", what, where, got, err, home.Dirs[:2])
			}
			if _, err := os.Lstat(filepath.Join(dir, where, ".other/pkg")); err == nil {
				t.Errorf("%s in %s: a directory was made beyond it", what, where)
			}
		}
	}
	if _, err := os.Lstat(out + "/pkg"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory was made outside of the home: %v", err)
	}
}

func TestWithoutDirs(t *testing.T) {
	plan, err := Compile(base(t), fakeHost(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	got := plan.withoutDirs([]string{"go/pkg"})
	if len(got.Mounts) != len(plan.Mounts)-1 || len(got.Home.Dirs) != len(plan.Home.Dirs)-1 || slices.Contains(got.Home.Dirs, "go/pkg") {
		t.Errorf("without go/pkg: %v, %v", got.Home.Dirs, got.Mounts)
	}
	if !slices.Contains(plan.Home.Dirs, "go/pkg") {
		t.Error("the plan itself was changed")
	}
}

// TestHomeLinks: a link of the real home in the place of a directory that the private home has leaves that one to the run; what is
// granted beyond the link is found by its path all the same.
func TestHomeLinks(t *testing.T) {
	const at, cargo = "/home/ann/.cargo", "/data/cargo"
	for _, c := range []struct {
		name  string
		make  func(profiles.Policy) (profiles.Policy, error)
		links map[string]string // below the home
		kept  bool              // the private home has a registry mounted
	}{
		{"no grant", func(p profiles.Policy) (profiles.Policy, error) { return p, nil }, nil, true},
		{"a set of tools", func(p profiles.Policy) (profiles.Policy, error) { return p.WithToolchains("rust") },
			map[string]string{at + "/bin": cargo + "/bin"}, true},
		{"below and above", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(at+"/bin/cargo", at+"/bin") },
			map[string]string{at + "/bin": cargo + "/bin"}, true},
		{"the link itself", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(at, at+"/bin") },
			map[string]string{at: "../../data/cargo"}, false},
		{"in a mounted directory", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(at + "/registry/src") },
			map[string]string{at + "/registry/src": cargo + "/registry/src"}, false},
		{"a hidden one", func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(at) }, nil, true},
		{"one of no private directory", func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/.nvm2/bin") },
			map[string]string{"/home/ann/.nvm2": "/data/nvm"}, true},
	} {
		host := fakeHost()
		files := host.Files.(fakeFiles)
		files[at], files["/home/ann/.nvm2"] = "-> ../../data/cargo", "-> /data/nvm"
		files[cargo+"/bin/cargo"], files[cargo+"/registry/src/x"], files["/data/nvm/bin/node"] = "", "data", ""
		plan, err := Compile(with(t, base(t), c.make), host, []string{"true"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		maps.DeleteFunc(plan.Symlinks, func(at, _ string) bool { return !within("/home/ann", at) })
		if !maps.Equal(plan.Symlinks, c.links) {
			t.Errorf("%s: links %v, want %v", c.name, plan.Symlinks, c.links)
		}
		if kept := slices.Contains(plan.Home.Dirs, ".cargo/registry"); kept != c.kept {
			t.Errorf("%s: the registry is mounted: %v, want %v", c.name, kept, c.kept)
		}
		if _, err := denyfs.NewTree(denyfsConfig(plan, nil, nil)); err != nil {
			t.Errorf("%s: the run's root: %v", c.name, err)
		}
	}
}

// TestHomePinned: of a home that is mounted as a whole no directory on the way to a cache can be moved away, nor one that would be a
// cache if nothing were granted in it.
func TestHomePinned(t *testing.T) {
	host := fakeHost()
	host.Identity.Home, host.Workdir, host.State = "/tmp/ann", "/tmp/ann/app", "/tmp/ann/.local/state/agentjail"
	for _, path := range []string{"app/x", ".npm/real/x", "go/x"} {
		host.Files.(fakeFiles)["/tmp/ann/"+path] = ""
	}
	policy := with(t, base(t), func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("~/.npm/real") })
	policy = with(t, policy, func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("~/go") })
	plan, err := Compile(policy, host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	for name, pinned := range map[string]bool{
		".cargo": true, ".local": true, ".local/share/pnpm": true, ".config/go": true, ".npm": true,
		".cache": false, ".cargo/registry": false, "go": false, "go/pkg": false,
	} {
		m, ok := plan.mount("/tmp/ann/" + name)
		if is := slices.Contains(plan.Home.Pinned, name); is != pinned || is && (!ok || m.Source != plan.Home.Private+"/"+name || !m.Writable) {
			t.Errorf("%s: pinned %t, want %t; mount %+v", name, is, pinned, m)
		}
	}
	if plan, err = Compile(base(t), fakeHost(), []string{"true"}); err != nil || plan.Home.Pinned != nil {
		t.Errorf("a home that the root serves: %q, %v", plan.Home.Pinned, err)
	}
}

// TestFurnishPinned: what is pinned is made, unless an earlier command has put something in its place.
func TestFurnishPinned(t *testing.T) {
	home := Home{Private: t.TempDir(), Caches: t.TempDir(), Dirs: []string{".m2/repository", ".cargo/registry"}, Pinned: []string{".m2", ".cargo"}}
	if err := os.Symlink("evil", filepath.Join(home.Private, ".m2")); err != nil {
		t.Fatal(err)
	}
	obstructed, err := home.furnish(t.TempDir())
	if err != nil || !slices.Equal(obstructed, []string{".m2", ".m2/repository"}) {
		t.Errorf("obstructed %q, %v", obstructed, err)
	}
	if info, err := os.Lstat(filepath.Join(home.Private, ".cargo")); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
}
