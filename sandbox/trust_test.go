// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/agentjail/agentjail/profiles"
)

// inspecting is the base profile with a rule that inspects TLS.
func inspecting(t *testing.T, env ...string) profiles.Policy {
	t.Helper()
	over, err := profiles.Parse("p.yaml", []byte("version: 1\nnetwork: {allow: [{host: a.example, tls: inspect}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return with(t, base(t).With(over), func(p profiles.Policy) (profiles.Policy, error) { return p.WithEnv(env...) })
}

// TestTrust: the authority is added to the bundles that are there and seen, and to those that variables name.
// Containment check: J06.
func TestTrust(t *testing.T) {
	host := fakeHost()
	files := host.Files.(fakeFiles)
	files["/etc/ssl/certs/ca-certificates.crt"] = "system"
	files["/etc/ssl/cert.pem"] = "-> certs/ca-certificates.crt"
	files["/etc/pki/tls/cacert.pem"] = "not seen inside"
	files["/home/ann/src/app/mine.pem"] = "mine"
	host.Environ = append(host.Environ, "DENO_CERT=")
	trusts := func(p profiles.Policy) (targets, env []string) {
		t.Helper()
		plan, err := Compile(p, host, []string{"true"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range plan.Mounts {
			if m.Kind == Trust {
				targets = append(targets, m.Target+"="+m.Source)
			}
		}
		for _, v := range plan.Env {
			if strings.Contains(v, "_CA") || strings.Contains(v, "CERT") || strings.Contains(v, "_SSL_") {
				env = append(env, v)
			}
		}
		return targets, env
	}
	system := "/etc/ssl/certs/ca-certificates.crt"
	targets, env := trusts(inspecting(t))
	if !slices.Equal(targets, []string{system + "=" + system, authorityFile + "="}) {
		t.Errorf("mounts %q", targets)
	}
	if !slices.Equal(env, []string{
		"AWS_CA_BUNDLE=" + system, "CURL_CA_BUNDLE=" + system, "DENO_CERT=" + authorityFile, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=" + system,
		"NODE_EXTRA_CA_CERTS=" + authorityFile, "REQUESTS_CA_BUNDLE=" + system, "SSL_CERT_FILE=" + system,
	}) {
		t.Errorf("variables %q", env)
	}
	targets, env = trusts(inspecting(t, "GIT_SSL_CAINFO=mine.pem", "CURL_CA_BUNDLE=/etc/ssl/cert.pem"))
	if !slices.Equal(targets, []string{system + "=" + system, "/home/ann/src/app/mine.pem=/home/ann/src/app/mine.pem", authorityFile + "="}) {
		t.Errorf("with variables: mounts %q", targets)
	}
	for _, want := range []string{"GIT_SSL_CAINFO=mine.pem", "CURL_CA_BUNDLE=/etc/ssl/cert.pem", "DENO_CERT=" + authorityFile} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not among %q", want, env)
		}
	}
	if _, err := Compile(inspecting(t, "PIP_CERT=/home/ann/.ssh/id"), host, []string{"true"}); err == nil || !strings.Contains(err.Error(), "PIP_CERT names \"/home/ann/.ssh/id\"") {
		t.Errorf("a bundle that is not seen: %v", err)
	}
	if targets, env := trusts(base(t)); len(targets)+len(env) != 0 {
		t.Errorf("without inspection: %q %q", targets, env)
	}
}

// TestTrustJava: the authority is added to the stores of the JDKs that are seen, and not to those that the command can write.
// Containment check: J06.
func TestTrustJava(t *testing.T) {
	host := toolHost("JAVA_HOME=/home/ann/src/app/jdk")
	files := host.Files.(fakeFiles)
	files["/usr/lib/jvm/java-17/lib/security/cacerts"] = "-> /etc/ssl/certs/java/cacerts"
	files["/usr/lib/jvm/java-8/jre/lib/security/cacerts"] = "store"
	files["/etc/ssl/certs/java/cacerts"] = "store"
	files["/opt/jdk/lib/security/cacerts"] = "not seen inside"
	files["/home/ann/.sdkman/candidates/java/21/lib/security/cacerts"] = "store"
	files["/home/ann/src/app/jdk/lib/security/cacerts"] = "could be the command's"
	plan, err := Compile(withTools(t, inspecting(t, "PATH=/opt/jdk/bin:/usr/lib/jvm/java-8/bin"), "java"), host, []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range plan.Mounts {
		if m.Kind == Java {
			targets = append(targets, m.Target)
		}
	}
	if want := []string{
		"/etc/ssl/certs/java/cacerts", "/home/ann/.sdkman/candidates/java/21/lib/security/cacerts", "/usr/lib/jvm/java-8/jre/lib/security/cacerts",
	}; !slices.Equal(targets, want) {
		t.Errorf("stores %q", targets)
	}
}

// TestTrusting: a bundle is what it was, with the certificate behind it. A link that was made since the plan is not followed.
// Containment check: J06.
func TestTrusting(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "bundle"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	plan := Plan{Mounts: []Mount{{Kind: Trust, Target: "/a", Source: file}, {Kind: Trust, Target: authorityFile}, {Kind: Bind, Target: "/b"}}}
	got, err := plan.trusting([]byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	if m := got.Mounts; m[0].Kind != File || m[0].Content != "one\ntwo" || m[0].Source != "" || m[1].Content != "two" || m[2].Kind != Bind || plan.Mounts[0].Kind != Trust {
		t.Errorf("%+v", m)
	}
	if _, err := plan.trusting(nil); err == nil {
		t.Error("without an authority")
	}
	for _, source := range []string{link, dir, filepath.Join(dir, "absent")} {
		plan.Mounts[0].Source = source
		if _, err := plan.trusting([]byte("two")); err == nil {
			t.Errorf("%s is read", source)
		}
	}
}

// TestTrustingJava: what is no store that Java would read without a password stays as it is.
func TestTrustingJava(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{server.Certificate()}, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cacerts")
	plan := Plan{Mounts: []Mount{{Kind: Java, Target: "/a", Source: file}}}
	for content, n := range map[string]int{"no store": 0, string(store): 2} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := plan.trusting(authority)
		if err != nil {
			t.Fatal(err)
		}
		m := got.Mounts[0]
		if m.Kind != File || n == 0 && m.Content != content || strings.Count(m.Content, string(server.Certificate().Raw)) != n {
			t.Errorf("%q: %+v", content, m)
		}
	}
	if _, err := plan.trusting([]byte("no PEM")); err == nil {
		t.Error("an authority that is no PEM")
	}
}
