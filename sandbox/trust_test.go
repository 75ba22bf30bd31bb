// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
