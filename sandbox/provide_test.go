// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"strings"
	"testing"

	"github.com/agentjail/agentjail/profiles"
)

// provided compiles a policy for a host that has settings of its own in /etc/codex, and returns the mount there.
func provided(t *testing.T, policy profiles.Policy) (*Mount, error) {
	t.Helper()
	host := fakeHost()
	host.Files.(fakeFiles)["/etc/codex/config.toml"] = "the machine's"
	plan, err := Compile(policy, host, []string{"true"})
	return plan.innermost("/etc/codex/config.toml"), err
}

// TestProvided: a file of an embedded profile stands for the machine's, unless the caller has that one shown; one of the caller's own
// policy contradicts that.
func TestProvided(t *testing.T) {
	codex, err := profiles.Named("codex")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := provided(t, codex); err != nil || m == nil || m.Kind != File || m.Writable || !strings.Contains(m.Content, "danger-full-access") {
		t.Errorf("%+v, %v", m, err)
	}
	own, err := profiles.Parse("own.yaml", []byte("version: 1\nextends: [base]\nfilesystem: {provide: {/etc/codex/config.toml: mine}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := provided(t, codex.With(own)); err != nil || m == nil || m.Content != "mine" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, path := range []string{"/etc/codex", "/etc/codex/config.toml"} {
		shows := func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(path) }
		if m, err := provided(t, with(t, codex, shows)); err != nil || m == nil || m.Kind != Bind {
			t.Errorf("with --ro %s: %+v, %v", path, m, err)
		}
		if m, err := provided(t, with(t, own, shows)); err == nil || !strings.Contains(err.Error(), "leave out one") {
			t.Errorf("own, with --ro %s: %+v, %v", path, m, err)
		}
		hides := func(p profiles.Policy) (profiles.Policy, error) { return p.WithHide(path) }
		if m, err := provided(t, with(t, codex, hides)); err != nil || m != nil {
			t.Errorf("with --hide %s: %+v, %v", path, m, err)
		}
	}
	taken, err := profiles.Parse("own.yaml", []byte("version: 1\nextends: [base]\nfilesystem: {provide: {/etc/passwd: \"root::0:0::/:\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(taken, fakeHost(), []string{"true"}); err == nil || !strings.Contains(err.Error(), "leave out one") {
		t.Errorf("another /etc/passwd: %v", err)
	}
	// What the profile base alone shows of the machine's gives way to the caller's own.
	both, err := profiles.Parse("own.yaml", []byte("version: 1\nextends: [base]\nfilesystem: {provide: {/etc/gitconfig: mine}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for policy, want := range map[*profiles.Policy]Kind{&own: Bind, &both: File} {
		host := fakeHost()
		host.Files.(fakeFiles)["/etc/gitconfig"] = "the machine's"
		plan, err := Compile(*policy, host, []string{"true"})
		if m := plan.innermost("/etc/gitconfig"); err != nil || m == nil || m.Kind != want {
			t.Errorf("/etc/gitconfig: %+v, %v", m, err)
		}
	}
}
