// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
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
