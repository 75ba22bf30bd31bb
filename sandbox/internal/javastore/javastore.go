// SPDX-License-Identifier: Apache-2.0

// Package javastore adds a certificate to a trust store of Java's, the file cacerts of a JDK.
//
// Java reads it without a password, which leaves two forms: JKS, whose certificates are not encrypted (Debian's, and those of JDKs before
// 18), and PKCS #12 without a password (JDK-8275252). A JVM takes either, whatever the name (keystore.type.compat, JEP 229). What is added
// keeps the form, so that a JVM that read the store reads it still. Stores of other forms, or with another password than changeit, are refused.
package javastore

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"
)

// alias names the certificate in the store; one of that name is replaced.
const alias = "agentjail"

// Add returns the store with a certificate in it.
func Add(store []byte, certificate *x509.Certificate) ([]byte, error) {
	if bytes.HasPrefix(store, []byte{0xfe, 0xed, 0xfe, 0xed}) {
		return addJKS(store, certificate)
	}
	certificates, err := pkcs12.DecodeTrustStore(store, "")
	if err != nil {
		return nil, fmt.Errorf("neither a JKS store nor one of PKCS #12 without a password: %w", err)
	}
	store, err = pkcs12.Passwordless.EncodeTrustStore(append(certificates, certificate), "")
	if err != nil {
		return nil, fmt.Errorf("encode PKCS #12: %w", err)
	}
	return store, nil
}

// The layout of a JKS store is that of OpenJDK's sun.security.provider.JavaKeyStore: magic, version, number of entries, entries, digest.
const (
	headSize   = 12
	version    = 2
	trusted    = 2 // the tag of an entry that is a certificate
	passphrase = "changeit"
)

// addJKS puts an entry behind the others. Their digest proves that they are whole.
func addJKS(store []byte, certificate *x509.Certificate) ([]byte, error) {
	end := len(store) - sha1.Size
	if end < headSize || binary.BigEndian.Uint32(store[4:]) != version {
		return nil, errors.New("a JKS store of another version than 2")
	}
	sum := digest(store[:end])
	if subtle.ConstantTimeCompare(sum, store[end:]) != 1 {
		return nil, errors.New("a JKS store that is damaged, or has another password than changeit")
	}
	count := binary.BigEndian.Uint32(store[8:])
	if count == math.MaxInt32 { // Java's int
		return nil, errors.New("a JKS store that is full")
	}
	added := bytes.Clone(store[:end])
	binary.BigEndian.PutUint32(added[8:], count+1)
	added = binary.BigEndian.AppendUint32(added, trusted)
	added = appendText(added, alias)
	added = binary.BigEndian.AppendUint64(added, uint64(time.Now().UnixMilli()))
	added = appendText(added, "X.509")
	added = binary.BigEndian.AppendUint32(added, uint32(len(certificate.Raw)))
	added = append(added, certificate.Raw...)
	return append(added, digest(added)...), nil
}

// appendText appends ASCII as DataOutputStream.writeUTF does.
func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// digest is that of a store whose password is the one that all have.
func digest(data []byte) []byte {
	h := sha1.New()
	for _, c := range utf16.Encode([]rune(passphrase)) {
		h.Write([]byte{byte(c >> 8), byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(data)
	return h.Sum(nil)
}
