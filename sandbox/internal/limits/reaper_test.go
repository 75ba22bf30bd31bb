// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// leaverArg starts the test binary as a launcher that gives up root, as agentjail does after sudo.
const leaverArg = "limits-leaver"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case ReaperArg:
			os.Exit(Reap())
		case leaverArg:
			if err := leave(os.Args[2], os.Args[3] == "die"); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

const nobody = 65534

// leave makes a group, becomes nobody, and uses the group.
func leave(run string, die bool) error {
	g, err := Create(Spec{Pids: 10, Run: run, Leaving: true})
	if err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		return err
	}
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		return err
	}
	if hits := g.Hits(); len(hits) > 0 {
		return fmt.Errorf("hits: %v", hits)
	}
	for _, p := range g.places {
		fmt.Println(p.path)
	}
	if die {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return errors.Join(g.Kill(), ignoreExit(cmd.Wait()), g.Close())
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func TestGroupOutlivesTheRightsOfItsLauncher(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give up")
	}
	realGroup(t, Spec{Pids: 10}) // skips where there are none
	for _, how := range []string{"close", "die"} {
		cmd := exec.Command("/proc/self/exe", leaverArg, ulid.Make().String(), how)
		out, err := cmd.Output()
		if err != nil && how == "close" {
			t.Fatalf("%v: %s", err, out)
		}
		paths := strings.Fields(string(out))
		if len(paths) == 0 {
			t.Fatalf("%s: no group: %v", how, err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if _, err := os.Stat(paths[0]); errors.Is(err, os.ErrNotExist) {
				break
			}
			if how == "close" || time.Now().After(deadline) {
				t.Fatalf("%s: %s is left", how, paths[0])
			}
		}
	}
}
