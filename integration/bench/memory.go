// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// benchMemory adds up the proportional set size (proc_pid_smaps(5)) of the processes that agentjail keeps while a command
// runs. It reads them as root, since they do not let their own user look.
func benchMemory([]string) error {
	credential, err := userCredential(os.Getenv("BENCH_USER"))
	if err != nil {
		return err
	}
	c := exec.Command("agentjail", "run", "--quiet", "--", "sh", "-c", "echo up; exec sleep 300")
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the command did not start: %q %w", line, err)
	}
	time.Sleep(time.Second) // what start-up alone needed is given back
	total := 0
	fmt.Println("memory that agentjail keeps while a command runs (PSS)")
	for _, pid := range append([]int{c.Process.Pid}, descendants(c.Process.Pid)...) {
		name, pss, err := memoryOf(pid)
		if err != nil {
			return err
		}
		if name == "sleep" || name == "sh" {
			continue
		}
		fmt.Printf("  %-20s %6.1f MiB\n", name, float64(pss)/1024)
		total += pss
	}
	fmt.Printf("  %-20s %6.1f MiB (at most 40)\n", "all", float64(total)/1024)
	return nil
}

// userCredential parses uid:gid.
func userCredential(text string) (*syscall.Credential, error) {
	uid, gid, ok := strings.Cut(text, ":")
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(err1, err2); !ok || err != nil {
		return nil, fmt.Errorf("BENCH_USER %q is not uid:gid", text)
	}
	return &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}, nil
}

func descendants(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(append(pids, child), descendants(child)...)
			}
		}
	}
	return pids
}

// memoryOf returns a process's name and its proportional set size in KiB.
func memoryOf(pid int) (string, int, error) {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "", 0, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return "", 0, err
	}
	for _, line := range bytes.Split(rollup, []byte("\n")) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "Pss:" {
			pss, err := strconv.Atoi(fields[1])
			return strings.TrimSpace(string(name)), pss, err
		}
	}
	return "", 0, fmt.Errorf("process %d has no Pss", pid)
}
