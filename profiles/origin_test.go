// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"testing"
)

const originText = `version: 1
extends: [base]
filesystem:
  workdir: ro
  read: [/srv/a, "/srv/b"]
  hide:
    - /srv/b/key
network:
  allow:
    - {host: Example.COM., ports: [22]}
    - cidr: 10.0.0.0/8
  loopback: [5432]
`

// TestOrigins: an entry is found where it was written, by whatever layers the policy came together.
func TestOrigins(t *testing.T) {
	file, err := Parse("p.yaml", []byte(originText))
	if err != nil {
		t.Fatal(err)
	}
	base, err := Named("base")
	if err != nil {
		t.Fatal(err)
	}
	rule, err := ParseRule("example.com:80")
	if err != nil {
		t.Fatal(err)
	}
	p := base.With(file)
	for _, step := range []func() (Policy, error){
		func() (Policy, error) { return p.WithRead("/srv/a") }, func() (Policy, error) { return p.WithHide("/srv/k") },
		func() (Policy, error) { return p.WithAllow(rule) }, func() (Policy, error) { return p.WithProtect("x") },
	} {
		if p, err = step(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		key, entry string
		want       []string
	}{
		{"read", "/srv/a", []string{"p.yaml:5:10", ""}},
		{"read", "/srv/b", []string{"p.yaml:5:18"}},
		{"hide", "/srv/b/key", []string{"p.yaml:7:7"}},
		{"hide", "/srv/k", []string{""}},
		{"workdir", "ro", []string{"p.yaml:4:12"}},
		{"allow", "example.com", []string{"p.yaml:10:7", ""}},
		{"allow", "10.0.0.0/8", []string{"p.yaml:11:7"}},
		{"loopback", "5432", []string{"p.yaml:12:14"}},
		{"protect", "x", []string{""}},
		{"read", "/srv/c", nil},
	} {
		var got []string
		for _, o := range p.Origins(c.key, c.entry) {
			got = append(got, o.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.key, c.entry, got, c.want)
		}
	}
	// The profile that both layers have is told of once.
	if got := p.Origins("read", "/usr"); len(got) != 1 || got[0].Source != "profile:base" || got[0].Line == 0 {
		t.Errorf("/usr is from %v", got)
	}
	if p.Digest() != mustDigest(t, p) {
		t.Error("where an entry was written is in the digest")
	}
}

// mustDigest is the digest of the same policy, written elsewhere.
func mustDigest(t *testing.T, p Policy) string {
	t.Helper()
	again, err := Parse("again.yaml", p.YAML())
	if err != nil {
		t.Fatal(err)
	}
	return again.Digest()
}
