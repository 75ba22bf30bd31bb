// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func needNet(t *testing.T) *servers {
	t.Helper()
	needSuite(t)
	if suite.net == nil {
		lack(t, "needs the servers of the test network; run make test")
	}
	return suite.net
}

// TestR01Workload (R01, R03, R11) is a day's work inside one jail: clone from a server, build and test, commit, push back.
func TestR01Workload(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	needTool(t, "git", "go")
	repo := gitServer(t, s, p)
	p.write(t, "work.sh", `set -ex
export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPROXY=off GIT_SSL_CAINFO=$PWD/ca.pem
git clone -q `+repo+` clone
cd clone
git config user.name Agent
git config user.email agent@example.com
go test ./...
echo '// more' >>lib.go
git commit -qam 'more'
git push -q origin HEAD:topic
`)
	p.write(t, "ca.pem", string(s.caPEM))
	p.write(t, p.home+"/.config/go/env", "GOFLAGS=-x\n") // which each start of go looks for, as git does for the other
	p.write(t, p.home+"/.config/git/ignore", "*.o\n")
	_, stderr, code := p.run(t, "agentjail", "run", "--quiet", "--allow-net", "allowed.test", "--", "sh", "work.sh")
	if code != 0 {
		events, _ := newestEvents(p.state)
		t.Fatalf("exit %d\n%s\n%s", code, stderr, listing(events))
	}
	quiet(t, p)
	if log := p.must(t, "git", "--git-dir="+p.root+"/served/repo.git", "log", "--format=%s %an", "topic"); !strings.HasPrefix(log, "more Agent\n") {
		t.Errorf("the server has %q", log)
	}
}

// gitServer serves a small Go module over https, by git's own server program, and returns its address.
func gitServer(t *testing.T, s *servers, p place) string {
	t.Helper()
	p.write(t, p.root+"/seed/go.mod", "module example.com/small\n\ngo 1.20\n")
	p.write(t, p.root+"/seed/lib.go", "package small\n\n// Two is two.\nfunc Two() int { return 2 }\n")
	p.write(t, p.root+"/seed/lib_test.go", "package small\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) {\n\tif Two() != 2 {\n\t\tt.Fatal()\n\t}\n}\n")
	script := `set -e; cd $1/seed; git init -q -b main; git config user.name s; git config user.email s@example.com
git add .; git commit -qm seed; mkdir $1/served; git clone -q --bare . $1/served/repo.git
git --git-dir=$1/served/repo.git config http.receivepack true`
	p.must(t, "sh", "-c", script, "sh", p.root)
	return "https://allowed.test" + serveRepositories(t, s, p) + "/repo.git"
}

// serveRepositories serves what is below served, by git's own server program, and returns the path of that.
func serveRepositories(t *testing.T, s *servers, p place) string {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	prefix := "/git-" + filepath.Base(p.root)
	s.mux.Handle(prefix+"/", &cgi.Handler{
		Path: strings.TrimSpace(string(execPath)) + "/git-http-backend", Root: prefix,
		Env: []string{"GIT_PROJECT_ROOT=" + p.root + "/served", "GIT_HTTP_EXPORT_ALL=1", "HOME=" + p.home, "REMOTE_USER=tester"},
	})
	return prefix
}

// TestR02Npm (R02, R11): npm ci from a registry, and the test script of the package.
func TestR02Npm(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	p := newPlace(t)
	needTool(t, "npm", "node")
	registry, integrity := npmRegistry(t, s, p)
	p.write(t, "package.json", `{"name": "small", "version": "1.0.0", "scripts": {"test": "node -e \"if (require('dep')() !== 42) process.exit(1)\""}, "dependencies": {"dep": "1.0.0"}}`)
	p.write(t, "package-lock.json", fmt.Sprintf(`{"name": "small", "version": "1.0.0", "lockfileVersion": 3, "packages": {
"": {"name": "small", "version": "1.0.0", "dependencies": {"dep": "1.0.0"}},
"node_modules/dep": {"version": "1.0.0", "resolved": "%s/dep/-/dep-1.0.0.tgz", "integrity": "%s"}}}`, registry, integrity))
	p.write(t, ".npmrc", "registry="+registry+"\nfetch-retries=0\naudit=false\nfund=false\nupdate-notifier=false\n")
	for _, proxy := range []string{"--proxy=false", "--proxy"} {
		stdout, stderr, code := p.run(t, "agentjail", "run", "--quiet", proxy, "--allow-net", "allowed.test:80", "--",
			"sh", "-ec", "rm -rf node_modules ~/.npm/*; npm ci && npm test")
		if code != 0 {
			events, _ := newestEvents(p.state)
			t.Fatalf("exit %d\n%s%s\n%s", code, stdout, stderr, listing(events))
		}
	}
	quiet(t, p)
	if !exists(p.project + "/node_modules/dep/index.js") {
		t.Error("the package is not there")
	}
	if exists(p.home + "/.npm") {
		t.Error("npm wrote to the host's home")
	}

	// Without the grant the same command fails, and the log says why.
	_, _, code := p.run(t, "agentjail", "run", "--quiet", "--", "sh", "-ec", "rm -rf node_modules ~/.npm/*; npm ci --prefer-online")
	if code == 0 {
		t.Error("it works without the grant")
	}
	wantEvent(t, p.ended(t), "deny", "net", "tcp.connect", "allowed.test:80")
}

// npmRegistry serves one package.
func npmRegistry(t *testing.T, s *servers, p place) (url, integrity string) {
	t.Helper()
	archive := tarball(t, map[string]string{
		"package/package.json": `{"name": "dep", "version": "1.0.0", "main": "index.js"}`,
		"package/index.js":     "module.exports = () => 42;\n",
	})
	sum := sha512.Sum512(archive)
	integrity = "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	prefix := "/npm-" + filepath.Base(p.root)
	url = "http://allowed.test" + prefix
	s.mux.HandleFunc(prefix+"/dep", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"name": "dep", "dist-tags": map[string]string{"latest": "1.0.0"},
			"versions": map[string]any{"1.0.0": map[string]any{
				"name": "dep", "version": "1.0.0",
				"dist": map[string]string{"tarball": url + "/dep/-/dep-1.0.0.tgz", "integrity": integrity},
			}},
		})
	})
	s.mux.HandleFunc(prefix+"/dep/-/dep-1.0.0.tgz", func(w http.ResponseWriter, r *http.Request) { w.Write(archive) })
	return url, integrity
}

// TestR02Clients: the network clients of the usual languages reach what is allowed, without being told of any proxy.
func TestR02Clients(t *testing.T) {
	t.Parallel()
	s := needNet(t)
	for name, command := range map[string][]string{
		"curl":   {"curl", "-sS", "--cacert", "ca.pem", "https://allowed.test/TOKEN"},
		"node":   {"node", "-e", "fetch('https://allowed.test/TOKEN').then(r => r.text()).then(console.log)"},
		"python": {"python3", "-c", "import urllib.request, ssl; print(urllib.request.urlopen('https://allowed.test/TOKEN', context=ssl.create_default_context(cafile='ca.pem')).read())"},
		"go":     {"./probe", "get", "https://allowed.test/TOKEN"},
		"wget":   {"wget", "-qO-", "--ca-certificate=ca.pem", "https://allowed.test/TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			needTool(t, "curl", "node", "python3", "wget")
			p.write(t, "ca.pem", string(s.caPEM))
			if name == "go" {
				p.must(t, "cp", suite.base+"/bin/probe", "probe")
			}
			token := "client-" + name + "-" + filepath.Base(p.root)
			args := []string{"run", "--quiet", "--env", "NODE_EXTRA_CA_CERTS=" + p.project + "/ca.pem",
				"--env", "SSL_CERT_FILE=" + p.project + "/ca.pem", "--allow-net", "allowed.test", "--"}
			for _, word := range command {
				args = append(args, strings.ReplaceAll(word, "TOKEN", token))
			}
			stdout, stderr, code := p.run(t, "agentjail", args...)
			if code != 0 || !strings.Contains(stdout, "hello from allowed.test") || !s.heard(token) {
				events, _ := newestEvents(p.state)
				t.Errorf("exit %d\n%s%s\n%s", code, stdout, stderr, listing(events))
			}
		})
	}
}
