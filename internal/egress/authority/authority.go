// SPDX-License-Identifier: Apache-2.0

// Package authority is the certificate authority of one run, by which the gateway answers for the hosts whose TLS it inspects.
//
// The root's key is dropped as soon as it has signed one intermediate certificate. That one can sign for the names that it was made for
// and below them alone, for no address, and for no further authority (RFC 5280 sections 4.2.1.9 and 4.2.1.10). Its key is in memory and nowhere
// else, and gone with the process. Programs inside trust the root, whoever else would has to be told to.
//
// A name constraint covers what is below a name, too: that no certificate is made for names that are not to be inspected is the caller's.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// Certificates are dated back, for clocks that are set, and are valid for longer than runs last. The keys are not there any more then.
const (
	before = 24 * time.Hour
	after  = 365 * 24 * time.Hour
)

// maxKept bounds the certificates that are kept.
const maxKept = 1024

// Authority signs certificates for some names. Its methods may be called from any goroutine.
type Authority struct {
	root     []byte // DER
	signer   *x509.Certificate
	key      *ecdsa.PrivateKey // of signer
	leaf     *ecdsa.PrivateKey // of all certificates
	from, to time.Time

	mu   sync.Mutex
	kept map[string]*tls.Certificate
}

// New makes an authority for names, in canonical form, and those below them.
func New(names []string) (*Authority, error) {
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		keys[i] = key
	}
	now := time.Now()
	a := &Authority{key: keys[1], leaf: keys[2], from: now.Add(-before), to: now.Add(after), kept: make(map[string]*tls.Certificate)}
	root, err := a.certificate("agentjail: this run alone")
	if err != nil {
		return nil, err
	}
	root.IsCA, root.MaxPathLen, root.KeyUsage = true, 1, x509.KeyUsageCertSign
	if a.root, err = x509.CreateCertificate(rand.Reader, root, root, keys[0].Public(), keys[0]); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if root, err = x509.ParseCertificate(a.root); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	signer, err := a.certificate("agentjail: hosts that this run inspects")
	if err != nil {
		return nil, err
	}
	signer.IsCA, signer.MaxPathLenZero, signer.KeyUsage = true, true, x509.KeyUsageCertSign
	signer.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	// RFC 5280 wants it critical. But then Mbed TLS, which does not know it (libgit2 of Debian's cargo has that), refuses the certificate;
	// who knows it keeps to it either way.
	signer.PermittedDNSDomains = names
	signer.ExcludedIPRanges = []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
	der, err := x509.CreateCertificate(rand.Reader, signer, root, keys[1].Public(), keys[0])
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if a.signer, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return a, nil
}

// certificate is what all of them have.
func (a *Authority) certificate(subject string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: subject}, NotBefore: a.from, NotAfter: a.to, BasicConstraintsValid: true,
	}, nil
}

// PEM is the root's certificate, for whoever is to trust it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root})
}

// Fingerprint is the SHA-256 of the root's certificate, in hexadecimal.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.root)
	return hex.EncodeToString(sum[:])
}

// For returns the certificate of a host, in canonical form, with its key. It is an error to ask for one that the authority is not for.
func (a *Authority) For(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.kept[name]; c != nil {
		return c, nil
	}
	leaf, err := a.certificate("")
	if err != nil {
		return nil, err
	}
	leaf.DNSNames = []string{name}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.signer, a.leaf.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der, a.signer.Raw}, PrivateKey: a.leaf}
	if c.Leaf, err = x509.ParseCertificate(der); err == nil {
		_, err = c.Leaf.Verify(a.verifyOptions(name))
	}
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if len(a.kept) >= maxKept {
		clear(a.kept)
	}
	a.kept[name] = c
	return c, nil
}

// verifyOptions are those of a client that trusts the root alone.
func (a *Authority) verifyOptions(name string) x509.VerifyOptions {
	o := x509.VerifyOptions{DNSName: name, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AppendCertsFromPEM(a.PEM())
	o.Intermediates.AddCert(a.signer)
	return o
}
