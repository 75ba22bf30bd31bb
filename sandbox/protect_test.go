// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"maps"
	"slices"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// TestProtectedMounts: what is there at the top of a place that may be written is mounted read-only, and moves with no directory.
func TestProtectedMounts(t *testing.T) {
	const app = "/home/ann/src/app"
	repository := fakeFiles{app + "/.git/HEAD": "", app + "/.git/hooks/x": "", app + "/.git/config": ""}
	for _, c := range []struct {
		name   string
		files  fakeFiles
		policy func(profiles.Policy) (profiles.Policy, error)
		want   []string // mounts below the working directory and the data that may be written
	}{
		{name: "nothing is there", want: nil},
		{name: "names", files: fakeFiles{app + "/.vscode/x": "", app + "/.envrc": "", app + "/sub/.vscode/x": "", app + "/x.code-workspace": ""},
			want: []string{"ro " + app + "/.envrc", "ro " + app + "/.vscode"}},
		{name: "two names", files: fakeFiles{app + "/.github/hooks/x": "", app + "/.github/workflows/x": ""},
			want: []string{"rw " + app + "/.github", "ro " + app + "/.github/hooks"}},
		{name: "a repository", files: repository,
			want: []string{"rw " + app + "/.git", "ro " + app + "/.git/config", "ro " + app + "/.git/hooks"}},
		{name: "a file for a repository", files: fakeFiles{app + "/.git": "gitdir: /nowhere\n"}, want: []string{"ro " + app + "/.git"}},
		{name: "a repository without a working tree", files: fakeFiles{app + "/HEAD": "", app + "/refs/x": "", app + "/objects/x": "", app + "/config": ""},
			want: []string{"ro " + app + "/config"}},
		{name: "a name that is granted", files: repository,
			policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite(app + "/.git/config") },
			want:   []string{"rw " + app + "/.git", "ro " + app + "/.git/hooks"}},
		{name: "a link", files: fakeFiles{app + "/.vscode": "-> conf/code", app + "/conf/code/x": ""},
			want: []string{"rw " + app + "/conf", "ro " + app + "/conf/code"}},
		{name: "a link that leads out", files: fakeFiles{app + "/.vscode": "-> ../other"}, want: nil},
		{name: "a link that leads nowhere", files: fakeFiles{app + "/.vscode": "-> none"}, want: nil},
		{name: "neither file nor directory", files: fakeFiles{app + "/.envrc": "socket"}, want: nil},
		{name: "hidden", files: fakeFiles{app + "/.vscode/x": ""},
			policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(app + "/.vscode") },
			want:   []string{"-- " + app + "/.vscode"}},
		{name: "another place", files: fakeFiles{"/home/ann/data/.idea/x": ""},
			policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite("/home/ann/data") },
			want:   []string{"rw /home/ann/data", "ro /home/ann/data/.idea"}},
		{name: "a place to read", files: fakeFiles{"/home/ann/data/.idea/x": ""},
			policy: func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/data") },
			want:   []string{"ro /home/ann/data"}},
	} {
		host, policy := fakeHost(), base(t)
		maps.Copy(host.Files.(fakeFiles), c.files)
		if c.policy != nil {
			policy = with(t, policy, c.policy)
		}
		plan, err := Compile(policy, host, []string{"true"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, m := range plan.Mounts {
			if m.Target != app && (within(app, m.Target) || within("/home/ann/data", m.Target)) {
				got = append(got, access(m)+" "+m.Target)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestProtectedRefuses is what the supervisor is told of a path.
func TestProtectedRefuses(t *testing.T) {
	p := Protected{Names: []string{".git", ".github/hooks", ".vscode"}, Places: []string{"/w", "/w/a/.vscode", "/b"}, Repositories: []string{"/b"}, Paths: []string{"/w/conf/git"}}
	refuses := p.refuses()
	for _, c := range []struct {
		action, path string
		want         []string
	}{
		{"create", "/w/.vscode/x", []string{"/w"}},
		{"create", "/elsewhere/.vscode/x", nil},
		{"create", "/w/a/.vscode/x", nil},
		{"mkdir", "/w/a/.vscode/.vscode", []string{"/w/a/.vscode"}},
		{"mkdir", "/w/.github", nil},
		{"rmdir", "/w/.github", nil},
		{"rename", "/w/.github", []string{"/w"}},
		{"symlink", "/w/.github", []string{"/w"}},
		{"link", "/w/.github", []string{"/w"}},
		{"rename", "/w/.git/modules/m", []string{"/w/.git", "/w/.git/modules/m/objects/"}},
		{"create", "/b/hooks/x", []string{"/b"}},
		{"unlink", "/b/hooks/x", nil},
		{"rmdir", "/w/.git/worktrees/t", []string{"/w/.git/worktrees/t/"}},
		{"create", "/b/refs/heads/x", nil},
		{"create", "/w/conf/git", []string{"/w"}}, // of any age, and where the root is made for the run
		{"symlink", "/w/conf", []string{"/w"}},
	} {
		if got := refuses(c.action, c.path); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.action, c.path, got, c.want)
		}
	}
	if (Protected{Places: []string{"/w"}}).refuses() != nil || (Protected{Names: []string{".git"}}).refuses() != nil {
		t.Error("something is asked where nothing is protected")
	}
}
