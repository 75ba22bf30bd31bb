// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

const explainPolicy = `version: 1
filesystem:
  read: [~/data, /home/ann/data/out/ro]
  write: [/home/ann/data/out]
  hide: [~/data/key, /home/ann/src/app/.env]
  protect: [Makefile]
`

// explained is a plan with one of each kind of place.
func explained(t *testing.T) (Plan, Host) {
	t.Helper()
	file, err := profiles.Parse("p.yaml", []byte(explainPolicy))
	if err != nil {
		t.Fatal(err)
	}
	host := fakeHost()
	files := host.Files.(fakeFiles)
	for path, content := range map[string]string{
		"/home/ann/data/key/k": "data", "/home/ann/data/out/x": "", "/home/ann/data/out/ro/x": "", "/home/ann/src/app/Makefile": "", "/home/ann/src/app/sub/x": "",
		"/home/ann/src/app/.git/config": "", "/home/ann/src/app/.git/HEAD": "", "/home/ann/src/app/shadow": "-> /etc/shadow",
		"/home/ann/src/app/key": "-> ../../data/key/k", "/home/ann/.npmrc": "data", "/home/ann/src/app/loop": "-> loop",
		"/home/ann/.local/state/agentjail/homes/base/mine": "", "/home/ann/hidden": "-> .ssh", "/etc/gone": "-> /nowhere",
	} {
		files[path] = content
	}
	policy := base(t).With(file)
	policy = with(t, policy, func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead("/home/ann/src/other") })
	plan, err := Compile(policy, host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	return plan, host
}

func TestExplainGolden(t *testing.T) {
	plan, host := explained(t)
	var b strings.Builder
	for _, path := range []string{
		"/home/ann/src/app/main.go", "/home/ann/src/app/new", "/home/ann/src/app/.env", "/home/ann/src/app/Makefile", "/home/ann/src/app/sub/Makefile", "/home/ann/src/app/none/Makefile", "/home/ann/src/app/sub/.git", "/home/ann/src/app/.git",
		"/home/ann/src/app/.git/config", "/home/ann/src/app/.git/HEAD", "/home/ann/src/app/shadow", "/home/ann/src/app/key", "/home/ann/src/app/loop", "/home/ann/hidden/id",
		"/home/ann/link/main.go", "/home/ann/src/app/../other/x", "/home/ann/data/x", "/home/ann/data/key/k", "/home/ann/data/out/x",
		"/home/ann/data/out/ro/x", "/usr/bin/env", "/bin/env", "/usr", "/home/ann", "/home/ann/src", "/home/ann/.ssh/id", "/home/ann/.ssh", "/home/ann/.npmrc",
		"/home/ann/mine", "/home/ann/new", "/home/ann/.bashrc", "/home/ann/.cache/x", "/home/ann/hidden", "/etc/shadow", "/etc/passwd", "/etc/gone", "/etc/none",
		"/tmp/x", "/dev/null", "/dev/stdin", "/dev/sda", "/proc/kcore", "/proc/sys/kernel", "/proc/self/status", "/home/real/x", "/bad\x1b[2K",
	} {
		e, err := plan.Explain(host.Files, path)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.String())
	}
	wantGolden(t, "explain", b.String())
}

// TestPrecedence: of what the policy says about a path and the directories above it, the most specific counts, in whatever order it is
// said; of the same path hide goes before read, and read before write.
func TestPrecedence(t *testing.T) {
	type say struct{ key, path string }
	const top, mid, low = "/srv/t", "/srv/t/m", "/srv/t/m/l"
	for _, c := range []struct {
		says []say
		at   string
		want Access
	}{
		{[]say{{"write", top}, {"read", mid}}, mid + "/x", AccessReadOnly},
		{[]say{{"write", top}, {"read", mid}}, top + "/x", AccessReadWrite},
		{[]say{{"read", top}, {"write", mid}}, mid + "/x", AccessReadWrite},
		{[]say{{"read", top}, {"write", mid}}, top + "/x", AccessReadOnly},
		{[]say{{"write", top}, {"read", mid}, {"write", low}}, low + "/x", AccessReadWrite},
		{[]say{{"write", top}, {"read", mid}, {"write", low}}, mid + "/x", AccessReadOnly},
		{[]say{{"read", top}, {"write", mid}, {"hide", low}}, low + "/x", AccessHidden},
		{[]say{{"read", top}, {"write", mid}, {"hide", low}}, mid + "/x", AccessReadWrite},
		{[]say{{"read", top}, {"hide", mid}, {"write", low}}, low + "/x", AccessReadWrite},
		{[]say{{"read", top}, {"hide", mid}, {"write", low}}, mid + "/x", AccessHidden},
		{[]say{{"write", top}, {"hide", mid}, {"read", low}}, low + "/x", AccessReadOnly},
		{[]say{{"hide", top}, {"read", mid}, {"write", low}}, low + "/x", AccessReadWrite},
		{[]say{{"hide", top}, {"read", mid}, {"write", low}}, mid + "/x", AccessReadOnly},
		{[]say{{"hide", top}, {"read", mid}, {"hide", low}}, low + "/x", AccessHidden},
		{[]say{{"hide", top}, {"hide", mid}, {"read", low}}, low + "/x", AccessReadOnly},
		{[]say{{"hide", top}, {"hide", mid}, {"read", low}}, mid + "/x", AccessHidden},
		// Of the same path.
		{[]say{{"hide", mid}, {"write", mid}}, mid + "/x", AccessHidden},
		{[]say{{"hide", mid}, {"read", mid}}, mid + "/x", AccessHidden},
		{[]say{{"read", mid}, {"write", mid}}, mid + "/x", AccessReadOnly},
		// A name is less specific than a path.
		{[]say{{"write", top}, {"protect", "x"}}, mid + "/x", AccessProtected},
		{[]say{{"write", top}, {"protect", "x"}, {"write", mid + "/x"}}, mid + "/x", AccessReadWrite},
		{[]say{{"write", top}, {"protect", "x"}, {"hide", mid + "/x"}}, mid + "/x", AccessHidden},
		{[]say{{"read", top}, {"protect", "x"}}, mid + "/x", AccessReadOnly},
	} {
		for _, order := range permutations(c.says) {
			host := fakeHost()
			for _, dir := range []string{top, mid, low} {
				host.Files.(fakeFiles)[dir+"/x"] = ""
			}
			policy := base(t)
			for _, s := range order {
				policy = with(t, policy, func(p profiles.Policy) (profiles.Policy, error) {
					return map[string]func(...string) (profiles.Policy, error){
						"read": p.WithRead, "write": p.WithWrite, "hide": p.WithHide, "protect": p.WithProtect,
					}[s.key](s.path)
				})
			}
			plan, err := Compile(policy, host, []string{"true"})
			if err != nil {
				t.Fatalf("%v: %v", order, err)
			}
			if e, err := plan.Explain(host.Files, c.at); err != nil || e.Access != c.want {
				t.Errorf("%v: %s is %s, %v, want %s", order, c.at, e.Access, err, c.want)
			}
		}
	}
}

func permutations[T any](list []T) [][]T {
	if len(list) < 2 {
		return [][]T{list}
	}
	var out [][]T
	for i := range list {
		rest := append(append([]T{}, list[:i]...), list[i+1:]...)
		for _, p := range permutations(rest) {
			out = append(out, append([]T{list[i]}, p...))
		}
	}
	return out
}
