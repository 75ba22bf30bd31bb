// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Where the server speaks TLS.
const (
	tlsAddr = "5.6.7.8:7003"
	tlsName = "bench.test:7003"
)

// serveTLS answers HTTP in TLS: a GET by as many bytes as its query says, a POST when it has come. It writes the certificate, which vouches
// for itself, to a file, and beside it a policy that has the gateway inspect all that.
func serveTLS(dir string) (authorities, policy string, err error) {
	host, _, _ := net.SplitHostPort(tlsName)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", "", err
	}
	authorities, policy = filepath.Join(dir, "authorities.pem"), filepath.Join(dir, "inspect.yaml")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return "", "", err
	}
	text := "version: 1\nnetwork: {allow: [{host: " + host + ", ports: [7003], tls: inspect}]}\n"
	if err := os.WriteFile(policy, []byte(text), 0o644); err != nil {
		return "", "", err
	}
	l, err := tls.Listen("tcp", tlsAddr, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		return "", "", err
	}
	go http.Serve(l, http.HandlerFunc(answerTLS))
	return authorities, policy, nil
}

func answerTLS(w http.ResponseWriter, r *http.Request) {
	block := make([]byte, 256<<10)
	if r.Method == http.MethodPost {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, block)
		return
	}
	n, _ := strconv.ParseInt(r.URL.RawQuery, 10, 64)
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	for ; n > 0; n -= int64(len(block)) {
		if _, err := w.Write(block[:min(n, int64(len(block)))]); err != nil {
			return
		}
	}
}

// transferTLS measures MiB a second of one HTTP request in TLS to an address, for a name. Whose certificate it is told does not matter here.
func transferTLS(addr, name string, up bool, amount string) (s sample, err error) {
	n, err := strconv.ParseInt(amount, 10, 64)
	if err != nil {
		return s, err
	}
	host, _, err := net.SplitHostPort(name)
	if err != nil {
		return s, err
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		return s, err
	}
	defer conn.Close()
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	client := http.Client{Transport: &http.Transport{DialTLSContext: dial, WriteBufferSize: 256 << 10}}
	request, err := http.NewRequest(http.MethodGet, "https://"+name+"/?"+amount, nil)
	if up {
		request, err = http.NewRequest(http.MethodPost, "https://"+name+"/", io.LimitReader(zeros{}, n))
	}
	if err != nil {
		return s, err
	}
	if up {
		request.ContentLength = n
	}
	began := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	got, err := io.Copy(io.Discard, answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !up && got != n) {
		err = fmt.Errorf("%s, with %d bytes", answer.Status, got)
	}
	s.Rate = float64(n) / (1 << 20) / time.Since(began).Seconds()
	return s, err
}

// zeros are endless.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
