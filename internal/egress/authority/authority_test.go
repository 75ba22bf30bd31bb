// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestAuthority: certificates are for the names that are inspected, and whoever had the key could make none for others.
// Containment check: J06.
func TestAuthority(t *testing.T) {
	a, err := New([]string{"inspected.test", "a_b.test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"inspected.test", "sub.inspected.test", "a_b.test"} {
		c, err := a.For(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again, _ := a.For(name); again != c {
			t.Errorf("%s has two certificates", name)
		}
		if len(c.Leaf.DNSNames) != 1 || c.Leaf.DNSNames[0] != name || c.Leaf.IsCA || len(c.Leaf.IPAddresses) != 0 {
			t.Errorf("%+v", c.Leaf)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Intermediates: a.verifyOptions(name).Intermediates}); err == nil {
			t.Error("the host trusts it")
		}
	}
	for _, name := range []string{"other.test", "notinspected.test", "test", "inspected.test.evil.test", "10.0.0.1"} {
		if _, err := a.For(name); err == nil {
			t.Errorf("there is a certificate for %s", name)
		}
	}
	// By the key itself: for other names and addresses, and as a further authority.
	for what, change := range map[string]func(*x509.Certificate){
		"a name":       func(c *x509.Certificate) { c.DNSNames = []string{"inspected.test", "other.test"} },
		"an address":   func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} },
		"IPv6":         func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv6loopback} },
		"an authority": func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign },
	} {
		leaf, err := a.certificate("")
		if err != nil {
			t.Fatal(err)
		}
		leaf.DNSNames, leaf.ExtKeyUsage = []string{"inspected.test"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		change(leaf)
		der, err := x509.CreateCertificate(rand.Reader, leaf, a.signer, a.leaf.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.Verify(a.verifyOptions("inspected.test"))
		if what == "an authority" {
			if a.signer.MaxPathLen != 0 || !a.signer.MaxPathLenZero {
				t.Errorf("%s: MaxPathLen %d", what, a.signer.MaxPathLen)
			}
		} else if err == nil {
			t.Errorf("%s: it is accepted", what)
		}
	}
	if b, _ := New([]string{"inspected.test"}); b.Fingerprint() == a.Fingerprint() || len(a.Fingerprint()) != 64 {
		t.Error("two runs have one authority")
	}
	if text := string(a.PEM()); strings.Contains(text, "PRIVATE") || strings.Count(text, "BEGIN") != 1 {
		t.Error(text)
	}
}

func TestKeptIsBounded(t *testing.T) {
	a, err := New([]string{"wild.test"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxKept + 10 {
		if _, err := a.For(fmt.Sprintf("n%d.wild.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.kept) > maxKept {
		t.Errorf("%d are kept", len(a.kept))
	}
}
