// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	secretFile = "secret"
	socketFile = "socket"
	variable   = "AGENTJAIL_SELFTEST"
)

// baitNamespaces are those of which a jail has its own; clocks are not hidden.
var baitNamespaces = []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}

// Bait is what the tries go for, on the host: a directory with a file and a socket, further sockets, and a variable of this process.
// All of it is harmless, and who reaches it learns a token that nothing else knows.
type Bait struct {
	facts     Facts
	listeners []net.Listener
	mu        sync.Mutex
	reached   map[string]bool // by the id of a try
}

// Put puts the bait out as a user, who may be less than the caller: the directory for temporary files can be that user's to change
// while this works there. Close takes it back.
func Put(uid, gid int) (*Bait, error) {
	b := &Bait{facts: Facts{Token: rand.Text(), Abstract: "agentjail-selftest-" + rand.Text()}, reached: map[string]bool{}}
	var err error
	alone(func() {
		unix.SetfsgidRetGid(gid) // setfsgid(2), setfsuid(2): of this thread alone, and without a capability after that
		unix.SetfsuidRetUid(uid)
		if now, _ := unix.SetfsuidRetUid(-1); now != uid {
			err = fmt.Errorf("no files can be made as uid %d", uid)
			return
		}
		err = b.put()
	})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bait) put() (err error) {
	if b.facts.Dir, err = os.MkdirTemp("", "agentjail-selftest-"); err != nil {
		return err
	}
	// As /proc names it from inside, and as the grants of a plan do.
	if b.facts.Dir, err = filepath.EvalSymlinks(b.facts.Dir); err != nil {
		return err
	}
	if b.facts.Namespaces, err = hostNamespaces(); err != nil {
		return err
	}
	if b.facts.Score, err = score(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.facts.Dir, secretFile), []byte(b.facts.Token), 0o600); err != nil {
		return err
	}
	if err := os.Setenv(variable, b.facts.Token); err != nil {
		return err
	}
	if _, err := b.listen("H15-abstract", "unix", "@"+b.facts.Abstract); err != nil {
		return err
	}
	if _, err := b.listen("L01-socket", "unix", filepath.Join(b.facts.Dir, socketFile)); err != nil {
		return err
	}
	// A host without one of the two has nothing to reach there.
	b.facts.TCP4, _ = b.listen("H07-loopback", "tcp4", "127.0.0.1:0")
	b.facts.TCP6, _ = b.listen("H07-loopback6", "tcp6", "[::1]:0")
	return nil
}

func hostNamespaces() (map[string]string, error) {
	found := map[string]string{}
	for _, kind := range baitNamespaces {
		name, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return nil, err
		}
		found[kind] = name
	}
	return found, nil
}

// listen says the token to who connects, and notes it. It returns the port, where there is one.
func (b *Bait) listen(id, network, address string) (int, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return 0, err
	}
	b.listeners = append(b.listeners, l)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.reached[id] = true
			b.mu.Unlock()
			io.WriteString(conn, b.facts.Token)
			conn.Close()
		}
	}()
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		return tcp.Port, nil
	}
	return 0, nil
}

// Facts are the arguments for the half inside.
func (b *Bait) Facts() string {
	data, err := json.Marshal(b.facts)
	if err != nil {
		panic(fmt.Sprintf("bug: strings and numbers always encode: %v", err))
	}
	return string(data)
}

// Granted is what of a policy gives the tries what they go for, so that they say nothing.
type Granted struct {
	Shows    func(path string) bool // whether a path of the host can be seen
	Loopback []uint16               // ports of the host's loopback
	Syscalls []string               // groups of system calls
}

// Judge reads the report of the inside and returns the table. failed is why there may be no whole report, nil if that is not known.
func (b *Bait) Judge(report io.Reader, granted Granted, failed error) Results {
	lines, err := parse(report)
	if err == nil {
		err = failed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make(Results, 0, len(tries))
	for _, t := range tries {
		l, ok := lines[t.id]
		r := Result{ID: t.id, What: t.what, Verdict: l.Verdict, Why: l.Why}
		switch why := b.void(t, granted); {
		case why != "":
			r.Verdict, r.Why = Untestable, why
		case b.reached[t.id]:
			r.Verdict, r.Why = Leaked, "a connection arrived"
		case !ok:
			if r.Verdict, r.Why = Silent, "it was not reported"; err != nil {
				r.Why = err.Error()
			}
		}
		results = append(results, r)
	}
	return results
}

// void says why a try says nothing here, "" where it does.
func (b *Bait) void(t try, granted Granted) string {
	paths, port := t.paths, 0
	switch t.id {
	case "B04-read", "B04-alias", "B04-list", "B05-create", "L01-socket":
		paths = []string{b.facts.Dir}
	case "H07-loopback":
		port = b.facts.TCP4
	case "H07-loopback6":
		port = b.facts.TCP6
	}
	absent := func(path string) bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case slices.ContainsFunc(paths, granted.Shows):
		return "the policy grants what was tried"
	case slices.Contains(granted.Loopback, uint16(port)):
		return "the policy grants the port that was tried"
	case slices.Contains(granted.Syscalls, t.group):
		return "the policy allows " + t.group
	case len(paths) > 0 && !slices.ContainsFunc(paths, func(path string) bool { return !absent(path) }):
		return "this host has nothing of the kind"
	}
	return ""
}

// Close takes the bait back.
func (b *Bait) Close() error {
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, os.Unsetenv(variable), os.RemoveAll(b.facts.Dir))...)
}
