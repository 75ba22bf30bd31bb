// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// zipped is an archive of files, by their names.
func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// tarball is a compressed archive of files, by their names.
func tarball(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// serve answers requests below a prefix of the test's own, and returns the address of that.
func serve(s *servers, p place, kind string, answers map[string][]byte) string {
	prefix := "/" + kind + "-" + filepath.Base(p.root)
	for path, answer := range answers {
		s.mux.HandleFunc(prefix+path, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(path, "/") {
				w.Header().Set("Content-Type", "text/html")
			}
			w.Write(answer)
		})
	}
	return "http://allowed.test" + prefix
}

// TestR02Go: a module of Go comes from a proxy, which is reached where the policy lets it. TestR01Workload builds and tests.
// Containment check: R11.
func TestR02Go(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	needTool(t, "go")
	const mod = "module example.test/dep\n\ngo 1.20\n"
	proxy := serve(s, p, "go", map[string][]byte{
		"/example.test/dep/@v/list":        []byte("v1.0.0\n"),
		"/example.test/dep/@v/v1.0.0.info": []byte(`{"Version":"v1.0.0"}`),
		"/example.test/dep/@v/v1.0.0.mod":  []byte(mod),
		"/example.test/dep/@v/v1.0.0.zip": zipped(t, map[string]string{
			"example.test/dep@v1.0.0/go.mod": mod, "example.test/dep@v1.0.0/dep.go": "package dep\n\nfunc Answer() int { return 42 }\n",
		}),
	})
	p.write(t, "go.mod", "module example.test/main\n\ngo 1.20\n\nrequire example.test/dep v1.0.0\n")
	work := []string{"env", "GOPROXY=" + proxy, "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw", "GOTOOLCHAIN=local", "sh", "-ec", "go mod download && cat $(go list -m -f {{.Dir}} example.test/dep)/dep.go"}
	stdout, stderr, code := p.run(t, "agentjail", append([]string{"run", "--quiet", "--allow-net", "allowed.test:80", "--"}, work...)...)
	if code != 0 || !strings.Contains(stdout, "return 42") {
		events, _ := newestEvents(p.state)
		t.Fatalf("exit %d\n%s%s\n%s", code, stdout, stderr, listing(events))
	}
	quiet(t, p)
	if exists(p.home+"/go") || exists(p.home+"/.cache") {
		t.Error("go wrote to the host's home")
	}
	if _, _, code = p.run(t, "agentjail", append([]string{"run", "--quiet", "--profile", "ci", "--"}, work...)...); code == 0 {
		t.Error("it works without the grant")
	}
	wantEvent(t, p.ended(t), "deny", "net", "tcp.connect", "allowed.test:80")
}

// TestR02Pip: pip installs a wheel from an index. It is not everywhere where Python is.
func TestR02Pip(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	if err := exec.Command("/usr/bin/python3", "-m", "pip", "--version").Run(); err != nil {
		t.Skip("the machine's Python has no pip")
	}
	wheel := zipped(t, map[string]string{
		"dep.py":                          "def answer(): return 42\n",
		"dep-1.0.dist-info/METADATA":      "Metadata-Version: 2.1\nName: dep\nVersion: 1.0\n",
		"dep-1.0.dist-info/WHEEL":         "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"dep-1.0.dist-info/RECORD":        "",
		"dep-1.0.dist-info/top_level.txt": "dep\n",
	})
	index := serve(s, p, "pip", map[string][]byte{
		"/dep-1.0-py3-none-any.whl": wheel,
		"/simple/dep/":              fmt.Appendf(nil, `<a href="../../dep-1.0-py3-none-any.whl#sha256=%x">dep-1.0-py3-none-any.whl</a>`, sha256.Sum256(wheel)),
	})
	script := "/usr/bin/python3 -m pip install -q --disable-pip-version-check --no-cache-dir --retries 0 --trusted-host allowed.test -i " + index +
		"/simple --target lib dep && PYTHONPATH=lib /usr/bin/python3 -c 'import dep; print(dep.answer())'"
	stdout, stderr, code := p.run(t, "agentjail", "run", "--quiet", "--allow-net", "allowed.test:80", "--", "sh", "-ec", script)
	if code != 0 || stdout != "42\n" {
		events, _ := newestEvents(p.state)
		t.Fatalf("exit %d\n%s%s\n%s", code, stdout, stderr, listing(events))
	}
	quiet(t, p)
	p.must(t, "rm", "-r", "lib")
	if _, _, code = p.run(t, "agentjail", "run", "--quiet", "--", "sh", "-ec", script); code == 0 {
		t.Error("it works without the grant")
	}
}

// TestR02Cargo: a crate comes from a registry whose index is a repository of git (as every cargo can read it), and is built, with the
// registry's certificate and with that of the run, where TLS is inspected.
// Containment check: R11.
func TestR02Cargo(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	needTool(t, "cargo", "git", "gcc")
	registry := cargoRegistry(t, s, p)
	p.write(t, "ca.pem", string(s.caPEM))
	p.write(t, ".cargo/config.toml", "[source.crates-io]\nreplace-with = \"local\"\n[source.local]\nregistry = \""+registry+"/index.git\"\n")
	p.write(t, "Cargo.toml", "[package]\nname = \"small\"\nversion = \"1.0.0\"\nedition = \"2018\"\n[dependencies]\ndep = \"1.0.0\"\n")
	p.write(t, "src/main.rs", "fn main() { println!(\"{}\", dep::answer()) }\n")
	p.write(t, "inspect.yaml", "version: 1\nextends: [base]\nnetwork: {allow: [{host: allowed.test, tls: inspect, methods: [GET, POST]}]}\n")
	const build = "rm -rf ~/.cargo/registry/* ~/.cargo/git/* target Cargo.lock; cargo build -q && target/debug/small"
	for _, way := range [][]string{
		{"--env", "CARGO_HTTP_CAINFO=ca.pem", "--allow-net", "allowed.test"},
		{"--env", "CARGO_HTTP_CAINFO=ca.pem", "--allow-net", "allowed.test", "--proxy"},
		{"--policy", "inspect.yaml"},
	} {
		args := append(append([]string{"run", "--quiet"}, way...), "--", "sh", "-ec", build)
		c := p.command("agentjail", args...)
		c.Env = append(c.Env, "SSL_CERT_FILE="+p.project+"/ca.pem") // by which the gateway verifies servers
		if stdout, err := c.Output(); err != nil || string(stdout) != "42\n" {
			events, _ := newestEvents(p.state)
			t.Fatalf("%s: %q, %v\n%s", way, stdout, err, listing(events))
		}
		quiet(t, p)
	}
	if exists(p.home + "/.cargo") {
		t.Error("cargo wrote to the host's home")
	}
	if _, _, code := p.run(t, "agentjail", "run", "--quiet", "--env", "CARGO_HTTP_CAINFO=ca.pem", "--", "sh", "-ec", build); code == 0 {
		t.Error("it works without the grant")
	}
	wantEvent(t, p.ended(t), "deny", "net", "tcp.connect", "allowed.test:443")
}

// cargoRegistry serves one crate, and returns the address below which its index is.
func cargoRegistry(t *testing.T, s *servers, p place) string {
	t.Helper()
	crate := tarball(t, map[string]string{
		"dep-1.0.0/Cargo.toml": "[package]\nname = \"dep\"\nversion = \"1.0.0\"\n",
		"dep-1.0.0/src/lib.rs": "pub fn answer() -> i32 { 42 }\n",
	})
	crates := strings.Replace(serve(s, p, "crates", map[string][]byte{"/dep/1.0.0/download": crate}), "http:", "https:", 1)
	p.write(t, p.root+"/seed/config.json", `{"dl": "`+crates+`"}`)
	p.write(t, p.root+"/seed/3/d/dep", fmt.Sprintf(`{"name":"dep","vers":"1.0.0","deps":[],"cksum":"%x","features":{},"yanked":false}`+"\n", sha256.Sum256(crate)))
	script := `set -e; cd $1/seed; git init -q -b master; git config user.name s; git config user.email s@example.com
git add .; git commit -qm seed; mkdir $1/served; git clone -q --bare . $1/served/index.git`
	p.must(t, "sh", "-c", script, "sh", p.root)
	return "https://allowed.test" + serveRepositories(t, s, p)
}

// maxNoise is how many denials that no summary may leave out a piece of ordinary work may make: so few that one that means something is
// seen.
const maxNoise = 3

// quiet checks that the newest run was refused next to nothing that a reader of its summary would be shown.
func quiet(t *testing.T, p place) {
	t.Helper()
	denied := 0
	for _, e := range p.ended(t) {
		if e.Decision != "deny" || e.Severity == "noise" {
			continue
		}
		if denied += e.attempts(); e.Class != "file" && e.Class != "exec" || e.Severity == "credential" || denied > maxNoise {
			t.Errorf("ordinary work was refused something: %v", e)
		}
	}
	t.Logf("%d denied", denied)
}
