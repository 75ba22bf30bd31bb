// SPDX-License-Identifier: Apache-2.0

package javastore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// certificate makes one that signs itself.
func certificate(t testing.TB, number int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(number)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// emptyJKS is the store that keytool writes without an entry.
func emptyJKS() []byte {
	head := []byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 0}
	return append(head, digest(head)...)
}

// TestAdd: a store keeps its form and its certificates.
// Containment check: J06.
func TestAdd(t *testing.T) {
	first, added := certificate(t, 1), certificate(t, 2)
	jks, err := Add(emptyJKS(), first)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Add(jks, added)
	if err != nil {
		t.Fatal(err)
	}
	body := jks[headSize : len(jks)-20]
	if n := binary.BigEndian.Uint32(got[8:]); n != 2 || !bytes.HasPrefix(got[headSize:], body) || !bytes.Contains(got, added.Raw) {
		t.Errorf("JKS: %d entries in %x", n, got)
	}
	p12, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{first}, "")
	if err != nil {
		t.Fatal(err)
	}
	if p12, err = Add(p12, added); err != nil {
		t.Fatal(err)
	}
	certificates, err := pkcs12.DecodeTrustStore(p12, "")
	if err != nil || !slices.EqualFunc(certificates, []*x509.Certificate{first, added}, (*x509.Certificate).Equal) {
		t.Errorf("PKCS #12: %d certificates, %v", len(certificates), err)
	}
}

// TestAddRefuses what is no store, is damaged, or has a password that Java would have to be told.
func TestAddRefuses(t *testing.T) {
	c := certificate(t, 1)
	damaged := emptyJKS()
	damaged[len(damaged)-1]++
	first := bytes.Clone(emptyJKS()[:headSize])
	first[7] = 1
	full := []byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0x7f, 0xff, 0xff, 0xff}
	secret, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{c}, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	for want, store := range map[string][]byte{
		"neither a JKS store nor": []byte("-----BEGIN CERTIFICATE-----"),
		"nor one of PKCS #12":     secret,
		"damaged":                 damaged,
		"another version":         append(first, digest(first)...),
		"version than 2":          {0xfe, 0xed, 0xfe, 0xed},
		"full":                    append(full, digest(full)...),
	} {
		if _, err := Add(store, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// FuzzAdd: whatever store is found, it does not panic, and what is made of it can be added to again.
func FuzzAdd(f *testing.F) {
	c := certificate(f, 1)
	jks, err := Add(emptyJKS(), c)
	if err != nil {
		f.Fatal(err)
	}
	p12, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{c}, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, store := range [][]byte{nil, emptyJKS(), jks, p12, jks[:len(jks)/2], p12[:len(p12)/2]} {
		f.Add(store)
	}
	f.Fuzz(func(t *testing.T, store []byte) {
		added, err := Add(store, c)
		if err != nil {
			return
		}
		if _, err := Add(added, c); err != nil || !bytes.Contains(added, c.Raw) {
			t.Errorf("added once: %v", err)
		}
	})
}
