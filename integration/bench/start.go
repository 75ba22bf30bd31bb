// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A variant is one way to run /bin/true.
type variant struct {
	name    string
	argv    []string
	dir     string
	agent   bool // a launcher made for agents, like agentjail
	times   []time.Duration
	refused string
}

const startRounds = 40

func benchStart([]string) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	variants := startVariants(dir)
	for _, v := range variants {
		v.try()
	}
	for range startRounds {
		for _, v := range variants {
			if v.refused != "" {
				continue
			}
			begin := time.Now()
			if err := v.command().Run(); err != nil {
				v.refused = err.Error()
				continue
			}
			v.times = append(v.times, time.Since(begin))
		}
	}
	printStart(variants)
	return nil
}

func startVariants(dir string) []*variant {
	npm := filepath.Join(os.Getenv("BENCH_PEERS"), "node_modules/.bin")
	variants := []*variant{
		{name: "bare", argv: []string{"/bin/true"}},
		{name: "agentjail", argv: []string{"agentjail", "run", "--quiet", "--", "/bin/true"}},
		{name: "bwrap --unshare-all", argv: []string{"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "/bin/true"}},
		{name: "firejail", argv: []string{"firejail", "--quiet", "--noprofile", "--private-dev", "--net=none", "/bin/true"}},
		{name: "sandbox-runtime", agent: true, argv: []string{npm + "/srt", "/bin/true"}},
		{name: "codex sandbox", agent: true, argv: []string{npm + "/codex", "sandbox", "--", "/bin/true"}},
	}
	runc := &variant{name: "runc", argv: []string{"runc", "--root", dir + "/runc", "run", "--bundle", dir + "/bundle", "bench"}}
	if err := makeBundle(dir + "/bundle"); err != nil {
		runc.refused = err.Error()
	}
	variants = append(variants, runc)
	for _, v := range variants {
		v.dir = dir
	}
	return variants
}

func (v *variant) command() *exec.Cmd {
	c := exec.Command(v.argv[0], v.argv[1:]...)
	c.Dir = v.dir
	return c
}

// try runs a variant once, so that one that cannot work is found out before it is measured, and caches are warm.
func (v *variant) try() {
	if v.refused != "" {
		return
	}
	if out, err := v.command().CombinedOutput(); err != nil {
		text := strings.TrimSpace(string(out))
		v.refused = fmt.Sprintf("%v: %s", err, text[:min(len(text), 300)])
	}
}

func printStart(variants []*variant) {
	medians := map[string]time.Duration{}
	fastestAgent := time.Duration(0)
	for _, v := range variants {
		if v.refused != "" {
			continue
		}
		m := median(v.times)
		medians[v.name] = m
		if v.agent && (fastestAgent == 0 || m < fastestAgent) {
			fastestAgent = m
		}
	}
	fmt.Printf("start to end of /bin/true, medians of %d interleaved rounds\n", startRounds)
	for _, v := range variants {
		if v.refused != "" {
			fmt.Printf("  %-20s left out: %s\n", v.name, v.refused)
			continue
		}
		fmt.Printf("  %-20s %s  %6.2f x bare\n", v.name, milliseconds(medians[v.name]), ratio(medians[v.name], medians["bare"]))
	}
	ours := medians["agentjail"]
	if bwrap := medians["bwrap --unshare-all"]; ours > 0 && bwrap > 0 {
		fmt.Printf("  agentjail is %.2f x bwrap (aim 3, at most 5)\n", ratio(ours, bwrap))
	}
	if ours > 0 && fastestAgent > 0 {
		fmt.Printf("  agentjail is %.2f x the fastest agent launcher (at most 0.5)\n", ratio(ours, fastestAgent))
	}
}

// makeBundle makes a rootless OCI bundle whose root shows the host's /usr, as runc's own example spec with another root.
func makeBundle(dir string) error {
	if err := os.MkdirAll(dir+"/rootfs", 0o755); err != nil {
		return err
	}
	c := exec.Command("runc", "spec", "--rootless")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("runc spec: %v: %s", err, out)
	}
	for _, name := range []string{"usr", "proc", "dev", "sys", "etc"} {
		if err := os.MkdirAll(dir+"/rootfs/"+name, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, dir+"/rootfs/"+name); err != nil {
			return err
		}
	}
	return editSpec(dir + "/config.json")
}

func editSpec(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no process", path)
	}
	process["terminal"] = false
	process["args"] = []string{"/bin/true"}
	mounts, _ := spec["mounts"].([]any)
	spec["mounts"] = append(mounts, map[string]any{
		"destination": "/usr", "source": "/usr", "type": "bind", "options": []string{"rbind", "ro"},
	})
	data, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
