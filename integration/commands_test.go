// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdExits runs a command and asks for one exit code: any failure is not the right failure.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	code := 0
	if errors.As(err, &ended) {
		code = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit %d, not %d\n%s%s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func cmdDenied(ts *testscript.TestScript, neg bool, args []string)  { queryLog(ts, "deny", neg, args) }
func cmdAllowed(ts *testscript.TestScript, neg bool, args []string) { queryLog(ts, "allow", neg, args) }
func cmdEvent(ts *testscript.TestScript, neg bool, args []string)   { queryLog(ts, "", neg, args) }

func queryLog(ts *testscript.TestScript, decision string, neg bool, args []string) {
	q, err := parseQuery(decision, args)
	ts.Check(err)
	events, err := newestEvents(ts.Getenv("XDG_STATE_HOME"))
	ts.Check(err)
	if err := q.check(events, neg); err != nil {
		ts.Fatalf("%v", err)
	}
}

// cmdLog names the newest run's log for the commands that read files.
func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	path, run, err := newestLog(ts.Getenv("XDG_STATE_HOME"))
	if neg {
		if err == nil {
			ts.Fatalf("there is a run: %s", run)
		}
		return
	}
	ts.Check(err)
	ts.Setenv("LOG", path)
	ts.Setenv("RUN", run)
}

func cmdSound(ts *testscript.TestScript, neg bool, args []string) {
	events, err := newestEvents(ts.Getenv("XDG_STATE_HOME"))
	if err == nil {
		err = sound(events)
	}
	if neg && err == nil {
		ts.Fatalf("the log is complete")
	}
	if !neg {
		ts.Check(err)
	}
}

// snapshots are the trees that scripts remembered, by name.
type snapshots map[string]map[string]string

func remembered(ts *testscript.TestScript) snapshots {
	return ts.Value("snapshots").(snapshots)
}

func cmdSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: snapshot DIR")
	}
	tree, err := treeOf(ts.MkAbs(args[0]))
	ts.Check(err)
	remembered(ts)[args[0]] = tree
}

func cmdUnchanged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unchanged DIR")
	}
	now, err := treeOf(ts.MkAbs(args[0]))
	ts.Check(err)
	before, ok := remembered(ts)[args[0]]
	if !ok {
		ts.Fatalf("no snapshot of %s", args[0])
	}
	for path, state := range now {
		if before[path] != state {
			ts.Fatalf("%s is now %q, was %q", path, state, before[path])
		}
	}
	for path := range before {
		if _, ok := now[path]; !ok {
			ts.Fatalf("%s is gone", path)
		}
	}
}

// treeOf describes every file below a directory: mode, owner, inode, link count, size, time of change, content.
func treeOf(root string) (map[string]string, error) {
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil // what is in it is not this user's to change
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		state := fmt.Sprintf("%v %d:%d %d %d", info.Mode(), stat.Uid, stat.Gid, stat.Ino, stat.Nlink)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			state += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			state += " " + target
		}
		tree[path] = state + " " + info.ModTime().String()
		return nil
	})
	return tree, err
}

func needServers(ts *testscript.TestScript) *servers {
	if suite.net == nil {
		ts.Fatalf("the test's servers are not there; begin the script with [!testnet] skip")
	}
	return suite.net
}

func cmdSeen(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: seen TEXT")
	}
	if got := needServers(ts).heard(args[0]); got == neg {
		ts.Fatalf("a server of the test saw %q: %v", args[0], got)
	}
}

func cmdResolved(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: resolved NAME")
	}
	if got := needServers(ts).heard("dns " + strings.ToLower(args[0])); got == neg {
		ts.Fatalf("the host's resolver was asked for %q: %v", args[0], got)
	}
}

// cmdTrust writes what clients know the test's servers by.
func cmdTrust(ts *testscript.TestScript, neg bool, args []string) {
	s := needServers(ts)
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), s.caPEM, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("known_hosts"), s.knownHosts(), 0o644))
}

// cmdUnixServer serves a stream socket and a datagram socket. A name that begins with @ is abstract (unix(7)).
func cmdUnixServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unixserver PATH")
	}
	path := args[0]
	if !strings.HasPrefix(path, "@") {
		path = ts.MkAbs(path)
	}
	stream, err := net.Listen("unix", path)
	ts.Check(err)
	ts.Defer(func() { stream.Close() })
	go echoLines(stream, func(line string) {
		if suite.net != nil {
			suite.net.note(line)
		}
	})
	dgram, err := net.ListenPacket("unixgram", path+".dgram")
	ts.Check(err)
	ts.Defer(func() { dgram.Close(); os.Remove(path + ".dgram") })
}

func cmdProbe(ts *testscript.TestScript, neg bool, args []string) {
	// By another process: a file that this one holds open for writing is busy for every child that is forked meanwhile
	// (ETXTBSY), until that child executes.
	out, err := exec.Command("install", "-m", "0755", suite.base+"/bin/probe", ts.MkAbs("probe")).CombinedOutput()
	if err != nil {
		ts.Fatalf("install: %v: %s", err, out)
	}
}
