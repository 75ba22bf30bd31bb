// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// suite is what test.sh prepared; see stage and run_as there.
var suite = struct {
	base  string // bin/agentjail, bin/probe, testdata
	work  string // where scripts get their directories, 0700
	cache string // the agents from npm
	user  string // uid:gid of the ordinary user
	must  bool   // AGENTJAIL_MUST_WORK
	net   *servers
}{
	base: os.Getenv("AGENTJAIL_TEST_BASE"), cache: os.Getenv("AGENTJAIL_TEST_CACHE"), user: os.Getenv("AGENTJAIL_TEST_USER"),
	must: os.Getenv("AGENTJAIL_MUST_WORK") != "",
}

func TestMain(m *testing.M) {
	if suite.base == "" {
		os.Exit(m.Run())
	}
	suite.work = filepath.Join(suite.base, who())
	// Handled here, they are what the programs under test start with: as in a terminal, whatever a script in the background,
	// nohup(1) or a CI runner has ignored.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	if os.Getenv("AGENTJAIL_TEST_NET") != "" {
		s, err := startServers()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test servers:", err)
			os.Exit(1)
		}
		suite.net = s
	}
	os.Exit(m.Run())
}

// who names the half of the suite that this process is.
func who() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return "user"
}

// needSuite skips a test that was started without test.sh.
func needSuite(t *testing.T) {
	t.Helper()
	if suite.base == "" {
		lack(t, "run this with make test: it needs a built binary, an ordinary user and a network of its own")
	}
}

// lack skips a test for want of something, or fails it where everything must work.
func lack(t *testing.T, why string) {
	t.Helper()
	if suite.must {
		t.Fatal(why)
	}
	t.Skip(why)
}

// needTool skips a test whose tool is missing.
func needTool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			lack(t, err.Error())
		}
	}
}

// place is the world of one test: directories that nothing else uses.
type place struct {
	root, home, state, config, project string
}

func newPlace(t *testing.T) place {
	t.Helper()
	needSuite(t)
	dir, err := os.MkdirTemp(suite.work, "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the test's directory cannot be removed: %v", err)
		}
	})
	p, err := makePlace(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func makePlace(root string) (place, error) {
	p := place{
		root: root, home: root + "/home", state: root + "/state", config: root + "/config", project: root + "/project",
	}
	for _, dir := range []string{p.home, p.state, p.config, p.project, root + "/tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return p, err
		}
	}
	return p, nil
}

// environ is the environment of everything that runs at the place.
func (p place) environ() []string {
	env := []string{
		"HOME=" + p.home, "XDG_STATE_HOME=" + p.state, "XDG_CONFIG_HOME=" + p.config,
		"PATH=" + suite.base + "/bin:" + os.Getenv("PATH"), "LANG=C.UTF-8", "TMPDIR=" + p.root + "/tmp",
		"GIT_CONFIG_NOSYSTEM=1",
	}
	return append(env, caVariables()...)
}

// caVariables name the machine's certificates, for tools that reach a registry through them.
func caVariables() []string {
	var out []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO":
			out = append(out, v)
		}
	}
	return out
}

// command is a command in the project's directory.
func (p place) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	if !strings.Contains(name, "/") {
		if _, err := os.Stat(suite.base + "/bin/" + name); err == nil {
			c = exec.Command(suite.base+"/bin/"+name, args...)
		}
	}
	c.Dir, c.Env = p.project, p.environ()
	c.WaitDelay = 30 * time.Second
	return c
}

// run runs a command to its end, and returns its output and exit code.
func (p place) run(t *testing.T, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return finish(t, p.command(name, args...))
}

func finish(t *testing.T, c *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%s: %v\n%s%s", c.Args, err, out.String(), errs.String())
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (p place) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	stdout, stderr, code := p.run(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", name, args, code, stdout, stderr)
	}
	return stdout
}

// write makes a file at the place.
func (p place) write(t *testing.T, path, text string) {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.project, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p place) read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.project, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
