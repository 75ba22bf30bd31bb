// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWithPrecedence(t *testing.T) {
	lower := parse(t, `
version: 1
filesystem: {workdir: rw, home: private, read: [/a, /b, /c/d], write: [/w], hide: [/h], private: [~/.x, ~/.y]}
limits: {memory: 1GiB, pids: 10}
`)
	upper := parse(t, `
version: 1
filesystem: {workdir: ro, read: [/h/in, /w], write: [/b], hide: [/c, ~/.y]}
limits: {pids: 20}
`)
	want := Files{
		Workdir: "ro", Home: "private",
		Read:    []string{"/a", "/b", "/c/d", "/h/in", "/w"}, // more specific than what is hidden around it, and before write
		Hide:    []string{"/c", "/h", "~/.y"},
		Private: []string{"~/.x"},
	}
	if got := lower.With(upper).Files(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The other way round only the scalars differ.
	want.Workdir = "rw"
	if got := upper.With(lower).Files(); !reflect.DeepEqual(got, want) {
		t.Errorf("reversed: got  %+v\nwant %+v", got, want)
	}
	if got := lower.With(upper).Limits(); got != (Limits{Memory: 1 << 30, Pids: 20}) {
		t.Errorf("limits: %+v", got)
	}
	if got := upper.With(lower).Limits(); got != (Limits{Memory: 1 << 30, Pids: 10}) {
		t.Errorf("limits reversed: %+v", got)
	}
}

// Of a file that two layers provide the later one's text counts; one that is hidden is not provided, whichever layer says so.
func TestProvided(t *testing.T) {
	lower := parse(t, `
version: 1
filesystem: {provide: {/etc/a: lower, /etc/b: lower, /etc/c/d: lower}}
`)
	upper := parse(t, `
version: 1
filesystem: {provide: {/etc/b: "upper\n"}, hide: [/etc/c]}
`)
	for text, p := range map[string]Policy{"upper\n": lower.With(upper), "lower": upper.With(lower)} {
		if want := map[string]string{"/etc/a": "lower", "/etc/b": text}; !reflect.DeepEqual(p.Files().Provide, want) {
			t.Errorf("%v, want %v", p.Files().Provide, want)
		}
	}
	if o := lower.Origins("provide", "/etc/b"); len(o) != 1 || o[0].Line != 3 {
		t.Errorf("written at %v", o)
	}
}

// What embedded profiles alone grant gives way to all else that is said of the path, and to a hide above it; in whatever order.
func TestEmbeddedGivesWay(t *testing.T) {
	embedded := Policy{files: Files{Read: []string{"/e/read", "/e/written", "/h/in", "/h/named"}}}
	embedded.files.Optional = embedded.files.Read
	own := parse(t, `
version: 1
filesystem: {read: [/h/named], write: [/e/written], hide: [/h]}
`)
	for name, p := range map[string]Policy{"over": embedded.With(own), "under": own.With(embedded), "twice": embedded.With(own).With(embedded)} {
		f := p.Files()
		if !slices.Equal(f.Read, []string{"/e/read", "/h/named"}) || !slices.Equal(f.Write, []string{"/e/written"}) || !slices.Equal(f.Optional, []string{"/e/read"}) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// A path that the user names must exist; one that only an embedded profile
// names may be missing.
func TestOptionalPaths(t *testing.T) {
	base, err := Named("base")
	if err != nil {
		t.Fatal(err)
	}
	f := base.Files()
	if !reflect.DeepEqual(f.Optional, f.Read) {
		t.Error("an embedded profile has paths that must exist")
	}
	p, err := base.WithRead("/usr", "/srv")
	if err != nil {
		t.Fatal(err)
	}
	f = p.Files()
	if slices.Contains(f.Optional, "/usr") || slices.Contains(f.Optional, "/srv") {
		t.Error("a path that the caller named is optional")
	}
	if !slices.Contains(f.Optional, "/bin") {
		t.Error("a path that only the profile named is required")
	}
	p, err = p.WithHide("/etc")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range p.Files().Optional {
		if strings.HasPrefix(path, "/etc/") {
			t.Errorf("%s is hidden, and still optional", path)
		}
	}
	if f := p.With(base).Files(); slices.Contains(f.Optional, "/usr") {
		t.Error("a layer over it made a required path optional")
	}
}

func TestNameOfLayers(t *testing.T) {
	base, agent, ci := named(t, "base"), named(t, "codex"), named(t, "ci")
	file := parse(t, "version: 1")
	for want, got := range map[string]Policy{
		"":      file.With(file),
		"base":  file.With(base).With(file),
		"codex": base.With(agent).With(ci).With(base).With(file),
		"ci":    file.With(ci),
	} {
		if got.Name() != want {
			t.Errorf("got %q, want %q", got.Name(), want)
		}
	}
	sources := agent.With(base).With(file).With(file).Sources()
	if len(sources) != 3 {
		t.Errorf("sources are repeated: %+v", sources)
	}
}

func named(t *testing.T, name string) Policy {
	t.Helper()
	p, err := Named(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPolicyIsImmutable(t *testing.T) {
	p := named(t, "claude-code")
	p, err := p.WithHide("/opt/secret")
	if err != nil {
		t.Fatal(err)
	}
	p = p.With(parse(t, "version: 1\nnetwork: {loopback: [1]}\nenvironment: {set: {A: b}}\n"))
	before := p.Digest()
	for _, list := range [][]string{
		p.Files().Read, p.Files().Hide, p.Files().Private, p.Files().Noise, p.Files().Optional, p.Environment().Pass,
	} {
		list[0] = "/changed"
	}
	p.Rules()[0].Ports[0] = PortRange{1, 65535}
	p.Rules()[0].Host = "changed"
	p.Loopback()[0] = 2
	p.Environment().Set["A"] = "changed"
	p.Sources()[0].Name = "changed"
	if _, err := p.WithRead("/further"); err != nil {
		t.Fatal(err)
	}
	if p.Digest() != before || p.Sources()[0].Name == "changed" || p.Files().Optional[0] == "/changed" {
		t.Errorf("the policy was changed through what it returned:\n%s", p.YAML())
	}
	// Nor through what was given to it.
	paths := []string{"/one"}
	rules := []Rule{{Host: "a.example", Ports: []PortRange{{1, 1}}}}
	q, err := p.WithRead(paths...)
	if err != nil {
		t.Fatal(err)
	}
	q, err = q.WithAllow(rules...)
	if err != nil {
		t.Fatal(err)
	}
	before = q.Digest()
	paths[0], rules[0].Host, rules[0].Ports[0].Last = "/two", "b.example", 9
	if q.Digest() != before {
		t.Error("the policy was changed through what it was made from")
	}
}

func TestModifiersRefuse(t *testing.T) {
	for name, with := range map[string]func(Policy) (Policy, error){
		"read":  func(p Policy) (Policy, error) { return p.WithRead("/ok", "relative") },
		"write": func(p Policy) (Policy, error) { return p.WithWrite("/ok", "/x/") },
		"hide":  func(p Policy) (Policy, error) { return p.WithHide("/*") },
		"group": func(p Policy) (Policy, error) { return p.WithSyscalls("debug", "everything") },
	} {
		p, err := with(named(t, "base"))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if p.Digest() != (Policy{}).Digest() {
			t.Errorf("%s: the error comes with a policy that grants something", name)
		}
	}
}

// Merging layers is associative: how the caller groups them cannot matter. For
// lists it is commutative, too: no order of layers grants more than another.
func TestWithIsAssociative(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b, c := randomPolicy(rng), randomPolicy(rng), randomPolicy(rng)
		left, right := a.With(b).With(c), a.With(b.With(c))
		if !reflect.DeepEqual(left, right) {
			t.Fatalf("(a.b).c and a.(b.c) differ for\n%s---\n%s---\n%s\n%+v\n%+v", a.YAML(), b.YAML(), c.YAML(), left, right)
		}
		if twice := left.With(c); !reflect.DeepEqual(twice, left) {
			t.Fatalf("a layer applied twice changes\n%s", left.YAML())
		}
		ab, ba := a.With(b).Files(), b.With(a).Files()
		ab.Workdir, ba.Workdir = "", ""
		if !reflect.DeepEqual(ab, ba) || !reflect.DeepEqual(a.With(b).Rules(), b.With(a).Rules()) {
			t.Fatalf("the order of layers matters for\n%s---\n%s", a.YAML(), b.YAML())
		}
		if zero := (Policy{}).With(a); zero.Digest() != a.Digest() || a.With(Policy{}).Digest() != a.Digest() {
			t.Fatalf("the zero policy changes\n%s", a.YAML())
		}
	}
}

// randomPolicy makes a small policy out of few values, so that layers collide.
func randomPolicy(rng *rand.Rand) Policy {
	pick := func(from ...string) []string {
		var out []string
		for _, s := range from {
			if rng.IntN(3) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	paths := []string{"/a", "/a/b", "/a/b/c", "/ab", "~/.c", "~/.c/d"}
	f := Files{
		Workdir: []string{"", "ro", "rw"}[rng.IntN(3)],
		Read:    pick(paths...),
		Write:   pick(paths...),
		Hide:    pick(paths[1], paths[5], "/etc/d"),
		Private: pick(paths[4:]...),
	}
	for _, path := range pick("/etc/a", "/etc/d/e", "/etc/d/f") {
		f.provide(path, "of "+path)
	}
	if rng.IntN(2) == 0 {
		f.Optional = unite(f.named(), nil)
	}
	var env Environment
	for _, v := range pick("A", "A=1", "A=2", "B", "B_*", "B_C=3") {
		layer, err := parseVariable(v)
		if err != nil {
			panic(err)
		}
		env = env.with(layer)
	}
	var rules []Rule
	for _, s := range pick("a.example", "a.example:1-9", "*.a.example:5-20", "10.0.0.0/8:21", "a.example:8-12") {
		r, err := ParseRule(s)
		if err != nil {
			panic(err)
		}
		rules = append(rules, r)
	}
	layer := Policy{
		files:    f,
		env:      env,
		rules:    rules,
		logError: []string{"", LogStop, LogContinue}[rng.IntN(3)],
		logSize:  []int64{0, 1 << 20, 5000000}[rng.IntN(3)],
		upstream: []string{"", "none", "environment", "http://p.test:1"}[rng.IntN(4)],
		proxy:    []string{"", proxyOn, proxyOff}[rng.IntN(3)],
		quota:    Quota{Upload: rng.Int64N(3) << 20, HostUpload: rng.Int64N(3), Connections: rng.IntN(3)},
		limits:   Limits{Pids: rng.Int64N(3), TTL: time.Duration(rng.IntN(2)) * time.Hour},
		sources:  []Source{{Name: fmt.Sprint(rng.IntN(5))}},
	}
	return Policy{}.With(layer)
}
