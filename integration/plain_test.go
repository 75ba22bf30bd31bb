// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Conditions of scripts that are run again.
const (
	onTmpfs    = "tmpfs"
	byRedirect = "redirect"
	byPorts    = "ports"
)

// plainScripts are scripts about files, which hold where FUSE cannot be used as well. Where one differs, it says so under [tmpfs].
var plainScripts = []string{
	"A02-*", "A04-*", "A09-*", "A14-*", "A18-*", "B*", "C*", "D*", "E05-nested", "L01-L04-*", "L03-*", "N04-*", "Q09-attributes", "Q09-spellings",
	"R01-*", "explain", "home", "standard-files", "unreadable",
}

// capturedScripts are scripts about how packets arrive and where they may go, which hold by whichever mechanism they are captured. Where
// one differs, it says so under [redirect].
var capturedScripts = []string{
	"H*", "I01-I20-*", "I22-*", "J01-*", "K01-*", "Q07-udp-flood", "R06-*", "killed-connects", "localhost", "publish",
}

// portScripts are those of them that hold where the other ports are refused by the kernel.
var portScripts = []string{"H06-*", "I13-*", "J01-*", "K07-*"}

// TestWithoutFUSE runs scripts again with /dev/fuse out of reach: the same checks pass with a tmpfs for a root.
func TestWithoutFUSE(t *testing.T) {
	again(t, "p", plainScripts, "cover /dev/fuse", onTmpfs)
}

// TestWithoutTProxy runs scripts again where no socket can be transparent: the same checks pass by nftables' nat.
// Containment check: H02.
func TestWithoutTProxy(t *testing.T) {
	again(t, "r", capturedScripts, "filter transparent=EPERM", byRedirect)
}

// TestWithoutNftables runs scripts again where nftables cannot be set up: they pass by listeners at the ports of the policy.
// Containment check: H02.
func TestWithoutNftables(t *testing.T) {
	again(t, "l", portScripts, "filter netfilter=EPROTONOSUPPORT", byPorts)
}

// again runs scripts with an agentjail that the probe starts in some way.
func again(t *testing.T, dir string, names []string, probe, met string) {
	t.Helper()
	needSuite(t)
	// Apart from where the same scripts run otherwise, and open to the user as whom some run. Paths of sockets must be short (unix(7)).
	work := filepath.Join(suite.work, dir)
	bin := filepath.Join(work, "bin")
	if err := os.MkdirAll(bin, 0o711); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nexec " + suite.base + "/bin/probe " + probe + " -- " + suite.base + "/bin/agentjail \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "agentjail"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(suite.base, "testdata", name+".txtar"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no script is called %s: %v", name, err)
		}
		files = append(files, found...)
	}
	params := scripts(met)
	params.Dir, params.Files, params.WorkdirRoot = "", files, work
	params.Setup = func(env *testscript.Env) error {
		if err := setupScript(env); err != nil {
			return err
		}
		env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
		return nil
	}
	testscript.Run(t, params)
}
