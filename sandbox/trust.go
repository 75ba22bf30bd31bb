// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/sandbox/internal/javastore"
)

// originInspect is the origin of mounts by which programs inside trust the authority that inspects their TLS.
const originInspect = "tls: inspect"

// authorityFile has the certificate of the run's authority alone. Nothing else is in its directory.
const authorityFile = "/run/agentjail/ca.pem"

// bundles are where systems keep the certificates that programs trust, as far as they exist: Debian, Arch and Alpine; Fedora, before and
// since its update-ca-trust; openSUSE. The list is that of Go's crypto/x509 (root_linux.go), and Arch's and openSUSE's own places.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/tls/cert.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	"/etc/ca-certificates/extracted/tls-ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem",
}

// Variables that name a bundle. Those of the first list are set, since their programs look nowhere else: OpenSSL looks into directories, in which no
// name can be made (Python, Ruby), others have certificates of their own (Requests, curl in conda, the AWS SDKs, gRPC). Those of the
// second name certificates that count as well (Node.js, Deno). Those of the third are for programs that use the system's bundle, or the
// first ones, unless told otherwise: git would lose a setting of its own. They are only looked at where they enter.
var (
	bundleVariables = []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"}
	addingVariables = []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"}
	otherVariables  = []string{"GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "PIP_CERT", "HTTPLIB2_CA_CERTS", "PERL_LWP_SSL_CA_FILE"}
)

// inspects tells whether the run has TLS inspected.
func (p Plan) inspects() bool {
	return slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Kind == Trust })
}

// trust has programs inside trust the authority of a run that inspects TLS: it is added to each bundle that they find, and variables lead
// to it. It returns the environment with those. What the caller's variables name is kept, with the authority added.
func (c *compiler) trust(env []string) ([]string, error) {
	if !slices.ContainsFunc(c.policy.Rules(), func(r profiles.Rule) bool { return r.Requests.Inspect }) {
		return env, nil
	}
	if c.covering(authorityFile) != nil {
		return nil, requestErrorf("tls: inspect makes %s, and %s is granted: grant what is needed in it", authorityFile, c.covering(authorityFile).Target)
	}
	c.mounts = append(c.mounts, Mount{Kind: Trust, Target: authorityFile, Origin: originInspect})
	first := authorityFile
	for _, path := range bundles {
		target, info, err := c.canonical(path)
		if err != nil || !info.Mode().IsRegular() || c.covering(target) == nil {
			continue
		}
		if first == authorityFile {
			first = path
		}
		c.trustFile(Trust, target)
	}
	c.trustJava(env)
	env = slices.DeleteFunc(env, func(v string) bool { // as good as not set
		name, value, _ := strings.Cut(v, "=")
		return value == "" && (slices.Contains(bundleVariables, name) || slices.Contains(addingVariables, name))
	})
	for _, name := range slices.Concat(bundleVariables, addingVariables, otherVariables) {
		value := variable(env, name)
		switch {
		case value != "":
			target, info, err := c.canonical(c.inDir(value))
			if err != nil || !info.Mode().IsRegular() || c.covering(target) == nil {
				return nil, requestErrorf("the variable %s names %q, a file that the command does not see, so that the authority of tls: inspect cannot be "+
					"added to it; grant the file with --ro, or leave the variable out", name, value)
			}
			c.trustFile(Trust, target)
		case slices.Contains(otherVariables, name):
		case slices.Contains(addingVariables, name):
			env = append(env, name+"="+authorityFile)
		default:
			env = append(env, name+"="+first)
		}
	}
	slices.Sort(env)
	return env, nil
}

// maxStores bounds the stores of Java's that are read; one machine rarely has three.
const maxStores = 32

// trustJava adds the authority to the trust stores of the JDKs that are seen: the system's, those of the tool sets, and those that
// JAVA_HOME and PATH lead to. What the command can write is left alone, since it could have made the store.
func (c *compiler) trustJava(env []string) {
	homes := c.matches("/usr/lib/jvm", []string{"*"})
	for _, tools := range c.toolsFound {
		if tools.Name != "java" {
			continue
		}
		for _, dir := range tools.Places {
			homes = append(homes, c.matches(dir, []string{"*", "candidates/java/*"})...)
		}
	}
	homes = append(homes, variable(env, "JAVA_HOME"))
	for _, dir := range filepath.SplitList(variable(env, "PATH")) {
		homes = append(homes, filepath.Dir(dir))
	}
	stores := []string{"/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts"}
	for _, home := range homes {
		if filepath.IsAbs(home) {
			stores = append(stores, filepath.Join(home, "lib/security/cacerts"), filepath.Join(home, "jre/lib/security/cacerts"))
		}
	}
	seen := map[string]bool{}
	for _, path := range stores {
		target, info, err := c.canonical(path)
		if err != nil || !info.Mode().IsRegular() || seen[target] || len(seen) == maxStores {
			continue
		}
		seen[target] = true
		if above := c.covering(target); above != nil && !above.Writable {
			c.trustFile(Java, target)
		}
	}
}

// trustFile adds the authority to a bundle, or store, that is seen inside.
func (c *compiler) trustFile(kind Kind, target string) {
	above := c.covering(target)
	source := above.Source + strings.TrimPrefix(target, above.Target)
	trusted := func(m Mount) bool { return m.Kind == kind && m.Target == target }
	if slices.ContainsFunc(c.mounts, trusted) {
		return
	}
	// What is granted is the file itself, or what it lies in.
	c.mounts = slices.DeleteFunc(c.mounts, func(m Mount) bool { return m.Kind == Bind && m.Target == target })
	c.mounts = append(c.mounts, Mount{Kind: kind, Target: target, Source: source, Origin: originInspect})
}

// inDir is a path as the command means it.
func (c *compiler) inDir(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return c.dir + "/" + path
}

// variable is the value of a variable, "" where it is not set.
func variable(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// trusting returns the plan with the certificates of the run's authority where they are to be trusted.
func (p Plan) trusting(authority []byte) (Plan, error) {
	p.Mounts = slices.Clone(p.Mounts)
	for i, m := range p.Mounts {
		if m.Kind != Trust && m.Kind != Java {
			continue
		}
		if len(authority) == 0 {
			return p, errors.New("bug: the plan inspects TLS, and the gateway has no authority")
		}
		content, err := trustedBy(m, authority)
		if err != nil {
			return p, err
		}
		p.Mounts[i] = Mount{Kind: File, Target: m.Target, Content: string(content), Origin: m.Origin}
	}
	return p, nil
}

// maxBundle bounds a bundle; that of a system is below 1 MiB.
const maxBundle = 4 << 20

// trustedBy is what a mount shows: a bundle, or a store, with the authority in it, or that one alone. A store that Java could not read without
// being told a password is left as it is.
func trustedBy(m Mount, authority []byte) ([]byte, error) {
	if m.Source == "" {
		return authority, nil
	}
	data, err := readBundle(m.Source)
	if err != nil {
		return nil, err
	}
	if m.Kind == Trust {
		return slices.Concat(data, []byte("\n"), authority), nil
	}
	block, _ := pem.Decode(authority)
	if block == nil {
		return nil, errors.New("bug: the gateway's authority is no PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("bug: the gateway's authority: %w", err)
	}
	if added, err := javastore.Add(data, certificate); err == nil {
		return added, nil
	}
	return data, nil
}

// readBundle reads a file of certificates.
func readBundle(path string) ([]byte, error) {
	// The plan has seen no link on the way: another run can have made one since.
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", quotePath(path), err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || len(data) > maxBundle {
		return nil, fmt.Errorf("%s is no bundle of certificates: it is no file of at most %d bytes", quotePath(path), maxBundle)
	}
	return data, nil
}
