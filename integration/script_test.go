// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	needSuite(t)
	testscript.Run(t, scripts(""))
}

// scripts are the scripts of testdata, with a condition that is met because of how they are run.
func scripts(met string) testscript.Params {
	return testscript.Params{
		Dir:         filepath.Join(suite.base, "testdata"),
		WorkdirRoot: suite.work,
		Setup:       setupScript,
		Condition: func(name string) (bool, error) {
			switch name {
			case onTmpfs, byRedirect, byPorts:
				return name == met, nil
			}
			return condition(name)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "denied": cmdDenied, "allowed": cmdAllowed, "event": cmdEvent, "log": cmdLog, "sound": cmdSound,
			"snapshot": cmdSnapshot, "unchanged": cmdUnchanged, "seen": cmdSeen, "resolved": cmdResolved,
			"trust": cmdTrust, "unixserver": cmdUnixServer, "probe": cmdProbe,
		},
	}
}

// setupScript gives a script its own home, state, configuration and project.
func setupScript(env *testscript.Env) error {
	p, err := makePlace(env.WorkDir)
	if err != nil {
		return err
	}
	for _, v := range p.environ() {
		name, value, _ := strings.Cut(v, "=")
		env.Setenv(name, value)
	}
	env.Setenv("BIN", suite.base+"/bin")
	env.Setenv("CACHE", suite.cache)
	env.Setenv("TESTUSER", suite.user)
	// A word that nothing else has, of this run of the tests or of another beside it, and that is no part of another one: the servers
	// that all scripts share can tell who spoke, and a script finds its own processes.
	work, name := filepath.Split(env.WorkDir)
	env.Setenv("MARK", fmt.Sprintf("token-%d-%s-%s", os.Getpid(), filepath.Base(work), name))
	env.Setenv("FLOOD", strconv.Itoa(flood()))
	env.Setenv("FLOODS", strconv.Itoa(8*flood()))
	env.Cd = p.project
	env.Values["snapshots"] = snapshots{}
	return nil
}

// condition answers the conditions that scripts ask for. Those that stand for a tool of the machine fail where all must work.
func condition(name string) (bool, error) {
	var ok bool
	switch name {
	case "root":
		return os.Getuid() == 0, nil
	case "user":
		return os.Getuid() != 0, nil
	case "btrfs":
		// Only root may mount one.
		known, err := os.ReadFile("/proc/filesystems")
		_, missing := exec.LookPath("mkfs.btrfs")
		return err == nil && missing == nil && os.Getuid() == 0 && strings.Contains(string(known), "\tbtrfs\n"), nil
	case "limits":
		// As root every machine has a cgroup; an ordinary user needs a systemd session to ask for one.
		return os.Getuid() == 0, nil
	case "collector":
		// It is built of some 150 modules, so that make test does without; make stress does not.
		_, err := os.Stat(suite.cache + "/collector")
		return err == nil, nil
	case "testnet":
		ok = suite.net != nil
	case "fuse":
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		ok = err == nil
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if !ok && suite.must {
		return false, fmt.Errorf("this machine lacks what the condition %q stands for", name)
	}
	return ok, nil
}
