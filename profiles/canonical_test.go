// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// What YAML writes, Parse reads back as the same policy.
func TestYAMLReadsBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	policies := []Policy{{}}
	for _, name := range Names() {
		policies = append(policies, named(t, name))
	}
	for range 500 {
		policies = append(policies, randomPolicy(rng))
	}
	for _, p := range policies {
		readsBack(t, p)
	}
}

// readsBack compares all that the canonical form holds: not name, sources and
// optional paths.
func readsBack(t *testing.T, p Policy) {
	t.Helper()
	again, err := Parse("again.yaml", p.YAML())
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.YAML())
	}
	if string(again.YAML()) != string(p.YAML()) {
		t.Fatalf("got\n%s\nwant\n%s", again.YAML(), p.YAML())
	}
	files, want := again.Files(), p.Files()
	files.Optional, want.Optional = nil, nil
	same := reflect.DeepEqual(files, want) &&
		reflect.DeepEqual(again.Rules(), p.Rules()) &&
		reflect.DeepEqual(again.Loopback(), p.Loopback()) && again.Upstream() == p.Upstream() &&
		reflect.DeepEqual(again.Environment(), p.Environment()) &&
		again.Limits() == p.Limits() && again.Digest() == p.Digest()
	if !same {
		t.Fatalf("differs in what the text does not show:\n%+v\n%+v", again, p)
	}
}

// Names and values that a reader of YAML could take for something else.
func TestYAMLQuotes(t *testing.T) {
	values := []string{
		"", " ", "x", "1", "0x1", "1.5", "true", "null", "~", "-", "- a", "a: b", "a #b", "'", `"`, `\`, `\n`,
		"a\nb", "\t", "\r\n", "\x01", "\x7f", "é", "日本", "🙂", "\u2028", "\u0085", "\ufeff", "\u00a0",
		"\U000e0001", "*a", "&a", "!a", "%a", "@a", "`a", "{a", "[a", "|", ">", "?", "<<", "2001-01-01", "12:30",
		"a\u0301", "---", "...", "=", ",", strings.Repeat("long ", 100),
	}
	p := Policy{}
	for i, v := range values {
		var err error
		if p, err = p.WithEnv("V_" + strings.Repeat("I", i+1) + "=" + v); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"NULL=1", "True=2", "Y=3", "yes=4", "NaN=5", "e=6", "null", "TRUE", "No", "n", "off", "_"} {
		var err error
		if p, err = p.WithEnv(name); err != nil {
			t.Fatal(err)
		}
	}
	p, err := p.WithRead("/a b", "/a: b", "/a #b", "/é", "~/x'y", `/a"b`, `/a\b`, "/[a]", "/a,b", "/{a}", "/-", "/🙂", "/\u202e")
	if err != nil {
		t.Fatal(err)
	}
	readsBack(t, p)
	for i, r := range string(p.YAML()) {
		if r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e || r == 0x2028) {
			t.Errorf("%U at %d is not escaped", r, i)
		}
	}
}

func TestDigest(t *testing.T) {
	// The digest is in logs: a change of the encoding is a change of their
	// format.
	p := parse(t, "version: 1\nfilesystem: {read: [/usr]}\nnetwork: {allow: [{host: a.example, ports: [80, \"1-9\"]}]}\n")
	const text = "version: 1\nfilesystem:\n  read:\n    - /usr\nnetwork:\n  allow:\n    - {host: \"a.example\", ports: [\"1-9\", 80]}\n"
	if got := string(p.YAML()); got != text {
		t.Errorf("encoding: got\n%s\nwant\n%s", got, text)
	}
	const want = "sha256:ca320860fa65c759d951cd22bb0403c56b4fcc84f9bc2cabfce6dd37f131e074"
	if got := p.Digest(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	const zero = "sha256:09bfcc6a14b83e2192b8673677725c84883ee9cd0c70e45c9ec09daa8f2b2847"
	if got := (Policy{}).Digest(); got != zero {
		t.Errorf("zero policy: got %s, want %s", got, zero)
	}
	other := parse(t, "version: 1\nnetwork: {allow: [{ports: [\"1-5\", 80, \"4-9\"], host: A.EXAMPLE}]}\nfilesystem: {read: [/usr, /usr]}\n")
	if other.Digest() != p.Digest() {
		t.Error("the spelling of a policy changes its digest")
	}
	for _, v := range []string{"A=1", "A=2", "A"} {
		q, err := p.WithEnv(v)
		if err != nil {
			t.Fatal(err)
		}
		if q.Digest() == p.Digest() {
			t.Errorf("%s does not change the digest", v)
		}
	}
}
