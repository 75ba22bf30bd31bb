// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// plainScripts are scripts about files, which hold where FUSE cannot be used as well. Where one differs, it says so under [tmpfs].
var plainScripts = []string{
	"A02-*", "A04-*", "A09-*", "A14-*", "B01-*", "B02-*", "B04-*", "B05-*", "B08-*", "B09-*", "B10-*", "D01-*", "D04-*", "L01-L04-*", "L03-*", "N04-*",
	"Q09-spellings", "R01-*", "explain", "home", "standard-files", "unreadable",
}

// TestWithoutFUSE runs scripts again with /dev/fuse out of reach: the same checks pass with a tmpfs for a root.
func TestWithoutFUSE(t *testing.T) {
	needSuite(t)
	// Apart from where the same scripts run with FUSE, and open to the user as whom some run. Paths of sockets must be short (unix(7)).
	work := filepath.Join(suite.work, "p")
	bin := filepath.Join(work, "bin")
	if err := os.MkdirAll(bin, 0o711); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nexec " + suite.base + "/bin/probe cover /dev/fuse -- " + suite.base + "/bin/agentjail \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "agentjail"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range plainScripts {
		found, err := filepath.Glob(filepath.Join(suite.base, "testdata", name+".txtar"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no script is called %s: %v", name, err)
		}
		files = append(files, found...)
	}
	params := scripts(true)
	params.Dir, params.Files, params.WorkdirRoot = "", files, work
	params.Setup = func(env *testscript.Env) error {
		if err := setupScript(env); err != nil {
			return err
		}
		env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
		env.Setenv("MARK", "plain-"+env.Getenv("MARK"))
		return nil
	}
	testscript.Run(t, params)
}
