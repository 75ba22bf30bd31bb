// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of what is read. A mountinfo of 3,000 mounts is 0.4 MiB.
const (
	maxFile    = 8 << 20
	maxThreads = 1 << 15
	maxFiles   = 1 << 16
)

// Read reads the posture of a process of the reader's pid namespace. The reader needs to be allowed to trace it
// (PTRACE_MODE_READ of ptrace(2)).
func Read(pid int) (Posture, error) { return readAt("/proc", pid) }

// Namespaces reads the namespaces of a process: of the supervisor itself for Want.Host, of the stage for Want.Run.
func Namespaces(pid int) (map[string]uint64, error) {
	return namespaces(filepath.Join("/proc", strconv.Itoa(pid)))
}

// Self reads what the calling thread's status says, without its namespaces and files.
func Self() (Thread, error) {
	text, err := readFile("/proc/thread-self/status")
	if err != nil {
		return Thread{}, fmt.Errorf("posture: %w", err)
	}
	return parseStatus(text)
}

func readAt(proc string, pid int) (Posture, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	p := Posture{PID: pid}
	for _, f := range []struct {
		name  string
		parse func(string) error
	}{
		{"uid_map", func(s string) (err error) { p.UIDMap, err = parseMap(s); return err }},
		{"gid_map", func(s string) (err error) { p.GIDMap, err = parseMap(s); return err }},
		{"setgroups", func(s string) error { p.Setgroups = strings.TrimSpace(s); return nil }},
		{"limits", func(s string) (err error) { p.Limits, err = parseLimits(s); return err }},
		{"mountinfo", func(s string) (err error) { p.Mounts, err = parseMounts(s); return err }},
		{"cgroup", func(s string) error { p.Cgroups = lines(s); return nil }},
	} {
		text, err := readFile(filepath.Join(dir, f.name))
		if err == nil {
			err = f.parse(text)
		}
		if err != nil {
			return Posture{}, fmt.Errorf("posture: %s: %w", f.name, err)
		}
	}
	var err error
	p.Threads, err = threads(dir, pid)
	return p, err
}

// threads reads every thread; one that is not the main thread may end meanwhile.
func threads(dir string, pid int) ([]Thread, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return nil, fmt.Errorf("posture: %w", err)
	}
	if len(entries) > maxThreads {
		return nil, fmt.Errorf("posture: %d threads", len(entries))
	}
	var list []Thread
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		t, err := thread(filepath.Join(dir, "task", e.Name()), tid)
		if err != nil && tid != pid && vanished(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("posture: thread %d: %w", tid, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func thread(dir string, tid int) (Thread, error) {
	text, err := readFile(filepath.Join(dir, "status"))
	if err != nil {
		return Thread{}, err
	}
	t, err := parseStatus(text)
	if err != nil {
		return Thread{}, err
	}
	t.TID = tid
	if t.Namespaces, err = namespaces(dir); err != nil {
		return Thread{}, err
	}
	t.Files, err = files(dir)
	return t, err
}

// namespaces reads links such as "net:[4026531840]". The *_for_children ones are of processes to come, and are listed
// like the others.
func namespaces(dir string) (map[string]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "ns"))
	if err != nil {
		return nil, err
	}
	found := map[string]uint64{}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, "ns", e.Name()))
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(e.Name(), "_for_children") {
			continue // pid_for_children, of a thread that has made no process yet after unshare(2)
		}
		if err != nil {
			return nil, err
		}
		_, number, _ := strings.Cut(link, ":[")
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("namespace %q", link)
		}
		found[e.Name()] = inode
	}
	return found, nil
}

func files(dir string) ([]File, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("%d open files", len(entries))
	}
	var list []File
	for _, e := range entries {
		f, err := file(dir, e.Name())
		if vanished(err) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b File) int { return a.FD - b.FD }) // os.ReadDir sorts "10" before "2"
	return list, nil
}

func file(dir, name string) (f File, err error) {
	if f.FD, err = strconv.Atoi(name); err != nil {
		return f, err
	}
	if f.Target, err = os.Readlink(filepath.Join(dir, "fd", name)); err != nil {
		return f, err
	}
	info, err := readFile(filepath.Join(dir, "fdinfo", name))
	if err != nil {
		return f, err
	}
	f.CloseOnExec, err = parseCloseOnExec(info)
	return f, err
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("too long")
	}
	return string(b), err
}
