// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// A .git file is believed only if the repository points back at it.
func TestWorktree(t *testing.T) {
	host := fakeHost()
	files := host.Files.(fakeFiles)
	files["/home/ann/src/app/.git"] = "gitdir: /home/ann/src/main/.git/worktrees/app\n"
	files["/home/ann/src/main/.git/worktrees/app/commondir"] = "../..\n"
	for _, f := range []string{"HEAD", "objects/x", "refs/x"} {
		files["/home/ann/src/main/.git/"+f] = ""
	}
	for back, want := range map[string]bool{"/home/ann/src/app/.git\n": true, "/home/ann/src/other/.git\n": false} {
		files["/home/ann/src/main/.git/worktrees/app/gitdir"] = back
		plan, err := Compile(base(t), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := plan.mount("/home/ann/src/main/.git"); ok != want || want && !m.Writable {
			t.Errorf("pointing back to %q: granted %v", back, ok)
		}
	}
}

// The admin directory of a worktree that is believed lies in its repository: nothing in the working directory can name another.
func TestWorktreeForged(t *testing.T) {
	for name, admin := range map[string]string{
		"a directory of the command's":       "/home/ann/src/app/fake",
		"one that is called worktrees":       "/home/ann/src/app/worktrees/x",
		"a link to the repository, and back": "/home/ann/src/app/repo/worktrees/../../worktrees/x",
	} {
		host := fakeHost()
		files := host.Files.(fakeFiles)
		files["/home/ann/src/app/.git"] = "gitdir: " + admin + "\n"
		files["/home/ann/src/app/repo"] = "-> ../main/.git"
		for _, f := range []string{"HEAD", "objects/x", "refs/x"} {
			files["/home/ann/src/main/.git/"+f] = ""
		}
		for _, dir := range []string{"/home/ann/src/app/fake", "/home/ann/src/app/worktrees/x", "/home/ann/src/worktrees/x"} {
			files[dir+"/gitdir"] = "/home/ann/src/app/.git\n"
			files[dir+"/commondir"] = "../../../main/.git\n"
		}
		files["/home/ann/src/app/fake/commondir"] = "../../main/.git\n"
		plan, err := Compile(base(t), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range plan.Mounts {
			if m.Origin == "git worktree" {
				t.Errorf("%s: granted %+v", name, m)
			}
		}
	}
}

// git writes both paths of a worktree relative where worktree.useRelativePaths says so.
func TestWorktreeRelative(t *testing.T) {
	for back, want := range map[string]bool{"../../../../app/.git": true, "../../../../other/.git": false} {
		host := fakeHost()
		files := host.Files.(fakeFiles)
		maps.Copy(files, fakeFiles{
			"/home/ann/src/app/.git":                          "gitdir: ../main/.git/worktrees/app\n",
			"/home/ann/src/main/.git/worktrees/app/commondir": "../..\n",
			"/home/ann/src/main/.git/worktrees/app/gitdir":    back + "\n",
			"/home/ann/src/main/.git/HEAD":                    "",
			"/home/ann/src/main/.git/objects/x":               "",
			"/home/ann/src/main/.git/refs/x":                  "",
		})
		plan, err := Compile(base(t), host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := plan.mount("/home/ann/src/main/.git"); ok != want || want && !m.Writable {
			t.Errorf("pointing back to %q: granted %v", back, ok)
		}
	}
}

// submodule has the working directory name a directory as its repository, and that say what its working tree is.
func submodule(t *testing.T, dir, written, repository, name, config string) (Mount, bool) {
	t.Helper()
	host := fakeHost()
	host.Workdir, host.Current = dir, dir
	files := host.Files.(fakeFiles)
	files[dir+"/.git"] = "gitdir: " + written + "\n"
	for _, f := range []string{"HEAD", "objects/x", "refs/x"} {
		files[repository+"/"+f] = ""
	}
	files[repository+"/config"] = "[core]\n\tbare = false\n"
	files[repository+"/"+name] = config
	plan, err := Compile(base(t), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	return plan.mount(repository)
}

// The repository of a submodule is granted, and nothing else of the one around it.
func TestSubmodule(t *testing.T) {
	const at = "/home/ann/src/.git/modules/lib/app"
	back := "[core]\n\tbare = false\n\tworktree = ../../../../app\n[remote \"origin\"]\n"
	for what, c := range map[string]struct{ written, repository, name, config string }{
		"as git writes it": {"../.git/modules/lib/app", at, "config", back},
		"absolute":         {at, at, "config", "[core]\n\tworktree = /home/ann/src/app\n"},
		"sparse":           {"../.git/modules/lib/app", at, "config.worktree", back},
		"of a worktree":    {"../main/.git/worktrees/w/modules/a", "/home/ann/src/main/.git/worktrees/w/modules/a", "config", "[core]\n\tworktree = /home/ann/src/app\n"},
	} {
		if m, ok := submodule(t, "/home/ann/src/app", c.written, c.repository, c.name, c.config); !ok || !m.Writable || m.Origin != "git submodule" {
			t.Errorf("%s: %+v, %v", what, m, ok)
		}
	}
}

// A .git file that an earlier run has left names no other repository, and no directory around the working directory.
func TestSubmoduleForged(t *testing.T) {
	const at, back = "/home/ann/src/.git/modules/app", "[core]\n\tworktree = /home/ann/src/app\n"
	for what, c := range map[string]struct{ written, repository, config string }{
		"of another submodule":    {"../.git/modules/app", at, "[core]\n\tworktree = ../../../other\n"},
		"of none":                 {"../.git/modules/app", at, "[core]\n"},
		"in another section":      {"../.git/modules/app", at, "[alias]\n\tworktree = ../../../app\n"},
		"no place for submodules": {"../other", "/home/ann/src/other", back},
		"a repository of its own": {"../other/.git", "/home/ann/src/other/.git", back},
		"the directory above":     {"..", "/home/ann/src", back},
	} {
		if m, ok := submodule(t, "/home/ann/src/app", c.written, c.repository, "config", c.config); ok {
			t.Errorf("%s: granted %+v", what, m)
		}
	}
	const inside = "/home/ann/src/.git/modules/app/work"
	if m, ok := submodule(t, inside, "..", at, "config", "[core]\n\tworktree = work\n"); ok {
		t.Errorf("around the working directory: granted %+v", m)
	}
}

// TestAround: a repository around the working directory is named where it cannot be seen.
func TestAround(t *testing.T) {
	const src, app = "/home/ann/src", "/home/ann/src/app"
	for _, c := range []struct {
		name   string
		git    string
		policy func(profiles.Policy) (profiles.Policy, error)
		want   string
	}{
		{name: "none"},
		{name: "its own", git: app + "/.git/HEAD"},
		{name: "around", git: src + "/.git/HEAD", want: src},
		{name: "granted", git: src + "/.git/HEAD", policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(src) }},
		{name: "hidden", git: src + "/.git/HEAD", policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(src + "/.git") }},
		{name: "its own, hidden", git: app + "/.git/HEAD", policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(app + "/.git") }},
		{name: "something else hidden", git: src + "/.git/HEAD", want: src,
			policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide("/home/ann/src/other") }},
		{name: "the home itself", git: "/home/ann/.git/HEAD"},
	} {
		host, policy := fakeHost(), base(t)
		if c.git != "" {
			host.Files.(fakeFiles)[c.git] = ""
		}
		if c.policy != nil {
			policy = with(t, policy, c.policy)
		}
		plan, err := Compile(policy, host, []string{"true"})
		if err != nil || plan.Around != c.want {
			t.Errorf("%s: %q %v, want %q", c.name, plan.Around, err, c.want)
		}
	}
}
