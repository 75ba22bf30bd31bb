// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func call(nr int, args ...uint64) Call {
	c := Call{Known: true, Nr: nr}
	copy(c.Args[:], args)
	return c
}

func homeTree(t *testing.T) *Tree {
	t.Helper()
	tree, err := NewTree(Config{Home: HomeConfig{Path: "/home/u", Private: "/p", Names: []string{".tool"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTreeLookup(t *testing.T) {
	const path = "/etc/x"
	stat, open := call(unix.SYS_STATX), call(unix.SYS_OPENAT, 0, 0, unix.O_RDONLY)
	creat := call(unix.SYS_OPENAT, 0, 0, unix.O_CREAT|unix.O_WRONLY)
	mkdir, watch := call(unix.SYS_MKDIRAT), call(unix.SYS_INOTIFY_ADD_WATCH)
	granted := func(a Action, errno unix.Errno) Denial {
		return Denial{a, path, errno, RuleNotGranted, "not granted", false}
	}
	unknown := granted(ActionStat, unix.ENOENT)
	unknown.Reason = "not granted, and not known to exist"
	watched := granted(ActionWatch, 0)
	watched.Reason = "not granted: the watch is on a stand-in that never changes"
	tests := []struct {
		name string
		q    Query
		want Verdict
	}{
		{"nothing there", Query{Call: open}, Verdict{}},
		{"nothing there, to be made", Query{Call: creat}, Verdict{}},
		{"a file", Query{Host: HostFile, Call: open}, Verdict{AnswerMissing, Now, granted(ActionOpenRead, unix.ENOENT)}},
		{"a file, by an unknown call", Query{Host: HostFile}, Verdict{AnswerMissing, Now, granted(ActionOther, unix.ENOENT)}},
		{"a file that may be made", Query{Host: HostFile, Call: creat}, Verdict{AnswerMissing, Later, granted(ActionOpenWrite, unix.ENOENT)}},
		{"a file in place of a directory", Query{Host: HostFile, Call: mkdir}, Verdict{AnswerMissing, Later, granted(ActionMkdir, unix.ENOENT)}},
		{"what cannot be looked at", Query{Host: HostUnknown, Call: stat}, Verdict{AnswerMissing, Now, unknown}},
		{"a directory", Query{Host: HostDir, Call: stat}, Verdict{Answer: AnswerThrough}},
		{"a directory to open", Query{Host: HostDir, Call: open}, Verdict{Answer: AnswerThrough}},
		{"a directory to make", Query{Host: HostDir, Call: mkdir}, Verdict{AnswerThrough, Later, granted(ActionMkdir, unix.EEXIST)}},
		{"a directory to watch", Query{Host: HostDir, Call: watch}, Verdict{AnswerThrough, Later, watched}},
		{"the private home's", Query{Private: true, Host: HostFile, Call: creat}, Verdict{Answer: AnswerReal}},
	}
	tree := homeTree(t)
	for _, test := range tests {
		test.q.Path = path
		if got := tree.Lookup(test.q); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
	own := Query{Path: "/home/u/.tool/file", Host: HostFile, Call: open}
	seen := granted(ActionOpenRead, unix.ENOENT)
	seen.Path = own.Path
	if got := tree.Lookup(own); got != (Verdict{AnswerMissing, Now, seen}) {
		t.Errorf("a file of the host that the private home owns: %+v", got)
	}
	own.Host, seen.Walk = HostDir, true
	if got := tree.Lookup(own); got != (Verdict{AnswerMissing, Now, seen}) {
		t.Errorf("a directory of the host that the private home owns: %+v", got)
	}
	own.Call = call(unix.SYS_MKDIRAT)
	if got := tree.Lookup(own); got != (Verdict{}) {
		t.Errorf("one that is to be made: %+v", got)
	}
}

func TestTreeName(t *testing.T) {
	tests := []struct {
		name string
		n    Naming
		rule string // "" is allowed
	}{
		{"outside the home", Naming{Path: "/etc/x"}, RuleNotGranted},
		{"outside, said to be in the union", Naming{Path: "/etc/x", Union: true}, RuleNotGranted},
		{"the home itself", Naming{Path: "/home/u", Union: true}, RuleNotGranted},
		{"below a hidden directory of the home", Naming{Path: "/home/u/d/x"}, RuleNotGranted},
		{"a new name", Naming{Path: "/home/u/x", Union: true}, ""},
		{"a new link", Naming{Path: "/home/u/x", Union: true, Symlink: true}, ""},
		{"a name of the host's home", Naming{Path: "/home/u/x", Union: true, Host: HostFile}, RuleHostName},
		{"a directory of the host's home", Naming{Path: "/home/u/x", Union: true, Host: HostDir}, RuleHostName},
		{"a name that may be the host's", Naming{Path: "/home/u/x", Union: true, Host: HostUnknown}, RuleHostName},
		{"a name that both have", Naming{Path: "/home/u/x", Union: true, Host: HostFile, Private: true}, ""},
		{"a name that is the private home's own", Naming{Path: "/home/u/.tool", Union: true, Host: HostDir}, ""},
		{"below that", Naming{Path: "/home/u/.tool/x", Union: true, Host: HostFile}, ""},
		{"a protected name", Naming{Path: "/home/u/.bashrc", Union: true}, RuleProtected},
		{"a protected name that is there", Naming{Path: "/home/u/.bashrc", Union: true, Private: true}, RuleProtected},
		{"below a protected name", Naming{Path: "/home/u/.config/systemd/user/x.service", Union: true}, RuleProtected},
		{"a directory above one", Naming{Path: "/home/u/.config", Union: true}, ""},
		{"a link above one", Naming{Path: "/home/u/.config", Union: true, Symlink: true}, RuleProtected},
	}
	tree := homeTree(t)
	for _, test := range tests {
		test.n.Action = ActionCreate
		d, ok := tree.Name(test.n)
		if ok != (test.rule == "") || d.Rule != test.rule {
			t.Errorf("%s: got %v, %+v, want rule %q", test.name, ok, d, test.rule)
		}
		if !ok && (d.Path != test.n.Path || d.Action != ActionCreate || d.Errno != unix.EACCES || d.Reason == "") {
			t.Errorf("%s: %+v", test.name, d)
		}
	}
	if _, ok := new(Tree).Name(Naming{Path: "/x", Union: true}); ok {
		t.Error("the zero tree lets a name be made")
	}
}

func TestTreeChange(t *testing.T) {
	tree := homeTree(t)
	for path, want := range map[string]bool{
		"/home/u/x": true, "/home/u/.tool/x": true, "/home/u/.config": true, "/home/u": false, "/etc/x": false,
		"/home/u/.ssh": false, "/home/u/.ssh/config": false, "/home/u/.zshrc": false,
	} {
		d, ok := tree.Change(path, ActionUnlink)
		if ok != want {
			t.Errorf("changing %s: %v", path, ok)
		}
		if !ok && (d.Path != path || d.Action != ActionUnlink || d.Errno != unix.EACCES || d.Rule == "" || d.Reason == "") {
			t.Errorf("changing %s: %+v", path, d)
		}
	}
}

func TestCredential(t *testing.T) {
	const home = "/srv/people/me"
	for _, path := range []string{
		home + "/.ssh/id_rsa", home + "/.ssh", home + "/.aws/credentials", home + "/.config/gcloud/x", home + "/.azure/t",
		home + "/.kube/config", home + "/.docker/config.json", home + "/.netrc", home + "/.git-credentials",
		home + "/.config/gh/hosts.yml", home + "/.npmrc", home + "/.pypirc", home + "/.cargo/credentials.toml",
		home + "/.gnupg/x", home + "/.password-store/a/b.gpg", home + "/.local/share/keyrings/login.keyring",
		home + "/.mozilla/firefox/p/logins.json", home + "/.config/google-chrome/Default/Cookies", home + "/.bash_history",
		home + "/.python_history", home + "/.claude/.credentials.json", home + "/.codex/auth.json",
		home + "/.gemini/oauth_creds.json", home + "/.vault-token", home + "/.terraform.d/credentials.tfrc.json",
		home + "/.config/Cursor/User/globalStorage/state.vscdb", home + "/.local/share/uv/credentials/x", home + "/.local/share/atuin/history.db",
		"/root/.ssh/authorized_keys", "/home/other/.aws/config", "/etc/shadow", "/etc/sudoers.d/x", "/etc/ssl/private/k.pem",
		"/etc/ssh/ssh_host_ed25519_key", "/run/secrets/token", "/run/user/1000/keyring/ssh",
	} {
		if !Credential(home, path) {
			t.Errorf("%s is no credential", path)
		}
	}
	for _, path := range []string{
		home, home + "/.sshx", home + "/src/.ssh", home + "/.config/git/config", home + "/.cargo/config.toml", home + "/.docker",
		home + "/x/.bash_history", "/etc/passwd", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_config", "/home/other",
		"/home", "/run/user/1000/bus", "/usr/bin/ssh", "",
	} {
		if Credential(home, path) {
			t.Errorf("%s is a credential", path)
		}
	}
	if Credential("", "/.ssh/id_rsa") {
		t.Error("without a home / is one")
	}
}

func TestHoldsCredentials(t *testing.T) {
	const home = "/srv/people/me"
	for dir, want := range map[string]bool{
		home: true, home + "/.config": true, home + "/.local": true, home + "/.docker": true, home + "/.config/Code": true, "/home/other": true,
		"/home/other/.cargo": true, "/root": true, "/etc": true, "/etc/ssl": true, "/etc/ssh": true, "/run/user": true, "/run/user/1000": true,
		home + "/src": false, home + "/.config/git/hooks": false, "/home/other/src": false, "/etc/apt": false, "/run/user/1000/app": false,
		"/srv/people": false, "/opt/x": false,
	} {
		if HoldsCredentials(home, dir) != want {
			t.Errorf("%s: %v", dir, !want)
		}
	}
}

// TestCredentialDirs: each is on the way to a place, and is none.
func TestCredentialDirs(t *testing.T) {
	const home = "/home/me"
	dirs := CredentialDirs()
	for _, dir := range []string{".config/git", ".local/share/opencode", ".config/pip", ".nuget/NuGet", ".cargo"} {
		if !slices.Contains(dirs, dir) {
			t.Errorf("%s is missing", dir)
		}
	}
	for _, dir := range dirs {
		if dir == "." || Credential(home, home+"/"+dir) {
			t.Errorf("%s is a place itself", dir)
		}
	}
}

func TestProtectedBelow(t *testing.T) {
	if got := protectedBelow(".local"); len(got) == 0 || got[0] != "share/systemd" {
		t.Errorf("below .local: %q", got)
	}
	if got := protectedBelow(".bashrc"); len(got) != 0 {
		t.Errorf("below a file: %q", got)
	}
}

// TestDenialRule: a denial says whether the policy hides a path, or merely nothing grants it.
func TestDenialRule(t *testing.T) {
	tree, err := NewTree(Config{Hidden: []Hide{{Path: "/a/b", Dir: true, Shown: []Grant{{"/a/b/c", true}}}, {Path: "/a/f"}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/a/b": RuleHidden, "/a/b/x": RuleHidden, "/a/b/x/y": RuleHidden, "/a/f": RuleHidden, "/a": RuleNotGranted, "/a/bc": RuleNotGranted, "/x": RuleNotGranted,
	} {
		v := tree.Lookup(Query{Path: path, Host: HostFile})
		if d, ok := tree.Name(Naming{Path: path}); ok || d.Rule != want || v.Denial.Rule != want {
			t.Errorf("%s: a name by %s, a lookup by %s, want %s", path, d.Rule, v.Denial.Rule, want)
		}
	}
}
