// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse feeds documents to Parse: it never panics, its errors are typed and
// printable, and what it accepts is a valid policy that its canonical form
// reproduces.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		text, err := builtin.ReadFile(builtinPath(name))
		if err != nil {
			f.Fatal(err)
		}
		p, err := Named(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(p.YAML())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("fuzz.yaml", text)
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("error of type %T", err)
			}
			if strings.ContainsAny(err.Error(), "\x00\n\r\x1b") {
				t.Fatalf("the error repeats the input raw: %q", err)
			}
			if p.Digest() != (Policy{}).Digest() {
				t.Fatal("an error comes with a policy that grants something")
			}
			return
		}
		for _, r := range p.Rules() {
			if err := r.check(); err != nil {
				t.Fatalf("rule %s: %v", r, err)
			}
		}
		files := p.Files()
		for _, path := range append(files.Read, files.Write...) {
			if err := checkGrant(path); err != nil || covered(path, setOf(files.Hide)) {
				t.Fatalf("path %q: %v", path, err)
			}
		}
		readsBack(t, p)
	})
}

// FuzzParseRule feeds rules to ParseRule: what it accepts is canonical, and
// names are never what a resolver would take for an address.
// Containment checks: I23.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"example.com", "*.example.com:8000-8100", "10.0.0.0/8:1", "[2001:db8::1]:443", "2001:db8::/32",
		"127.1", "0x7f.1", "127。0。0。1", "bücher.example", "xn--bcher-kva.example", "a..b", "[::1%25.x]:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			if !isASCII(err.Error()) || strings.ContainsAny(err.Error(), "\x00\n\r\x1b") {
				t.Fatalf("the error repeats the input raw: %q", err)
			}
			return
		}
		if err := r.check(); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if again, err := ParseRule(r.String()); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%q: %s reads back as %s, %v", s, r, again, err)
		}
		if r.Host != "" && (looksLikeAddress(r.Host) || strings.ToLower(r.Host) != r.Host) {
			t.Fatalf("%q: host %q", s, r.Host)
		}
	})
}
