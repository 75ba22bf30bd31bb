// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/profiles"
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
		c.trustFile(target)
	}
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
			c.trustFile(target)
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

// trustFile adds the authority to a bundle that is seen inside.
func (c *compiler) trustFile(target string) {
	above := c.covering(target)
	source := above.Source + strings.TrimPrefix(target, above.Target)
	trusted := func(m Mount) bool { return m.Kind == Trust && m.Target == target }
	if slices.ContainsFunc(c.mounts, trusted) {
		return
	}
	// What is granted is the file itself, or what it lies in.
	c.mounts = slices.DeleteFunc(c.mounts, func(m Mount) bool { return m.Kind == Bind && m.Target == target })
	c.mounts = append(c.mounts, Mount{Kind: Trust, Target: target, Source: source, Origin: originInspect})
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
		if m.Kind != Trust {
			continue
		}
		if len(authority) == 0 {
			return p, errors.New("bug: the plan inspects TLS, and the gateway has no authority")
		}
		content, err := bundle(m.Source, authority)
		if err != nil {
			return p, err
		}
		p.Mounts[i] = Mount{Kind: File, Target: m.Target, Content: string(content), Origin: m.Origin}
	}
	return p, nil
}

// maxBundle bounds a bundle; that of a system is below 1 MiB.
const maxBundle = 4 << 20

// bundle is a file of certificates with one added, or that one alone.
func bundle(path string, authority []byte) ([]byte, error) {
	if path == "" {
		return authority, nil
	}
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
	return slices.Concat(data, []byte("\n"), authority), nil
}
