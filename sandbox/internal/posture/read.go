// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of what is read.
const (
	maxThreads = 1 << 15
	maxFiles   = 1 << 16
)

// Read reads the posture of a process of the reader's pid namespace. The reader needs to be allowed to trace it
// (PTRACE_MODE_READ of ptrace(2)).
func Read(pid int) (Posture, error) { return read(pid, false) }

// ReadRunning leaves out the open files, which a Want.Running does not compare: a command may have very many. Its first thread may have
// ended. A program that its owner may not read either shows neither its namespaces nor its directory to a reader who is not root on the
// host (would_dump in fs/exec.c): they are left out.
func ReadRunning(pid int) (Posture, error) { return read(pid, true) }

func read(pid int, running bool) (Posture, error) {
	p := Posture{PID: pid}
	err := in(strconv.Itoa(pid), func(d *procDir) (err error) {
		if p.Threads, err = threads(d, pid, running); err != nil {
			return err
		}
		at := ""
		if running && len(p.Threads) > 0 && p.Threads[0].TID != pid { // the first has ended, and tells nothing any more
			at = "task/" + strconv.Itoa(p.Threads[0].TID) + "/"
		}
		return cmp.Or(
			parsed(d, at+"uid_map", parseMap, &p.UIDMap),
			parsed(d, at+"gid_map", parseMap, &p.GIDMap),
			parsed(d, at+"setgroups", parseWord, &p.Setgroups),
			parsed(d, at+"limits", parseLimits, &p.Limits),
			parsed(d, at+"mountinfo", parseMounts, &p.Mounts),
			parsed(d, at+"cgroup", parseCgroups, &p.Cgroups),
			p.readDir(d, at, running),
		)
	})
	return p, err
}

// Self reads what of the calling thread a Want is made of: what a child inherits, and the namespaces that it must not be in.
func Self() (Posture, error) {
	p := Posture{Threads: make([]Thread, 1)}
	t := &p.Threads[0]
	err := in("thread-self", func(d *procDir) (err error) {
		if err = parsed(d, "status", parseStatus, t); err == nil {
			t.Namespaces, err = namespaces(d, "")
		}
		return cmp.Or(err, parsed(d, "limits", parseLimits, &p.Limits), parsed(d, "cgroup", parseCgroups, &p.Cgroups))
	})
	return p, err
}

// Namespaces reads the namespaces of a process.
func Namespaces(pid int) (found map[string]uint64, err error) {
	err = in(strconv.Itoa(pid), func(d *procDir) (err error) {
		found, err = namespaces(d, "")
		return err
	})
	return found, err
}

func in(name string, read func(*procDir) error) error {
	d, err := openProc(name)
	if err == nil {
		defer d.close()
		err = read(d)
	}
	if err != nil {
		return fmt.Errorf("posture of %s: %w", name, err)
	}
	return nil
}

func parsed[T any](d *procDir, name string, parse func(string) (T, error), to *T) error {
	text, err := d.text(name)
	if err != nil {
		return err
	}
	if *to, err = parse(text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *Posture) readDir(d *procDir, at string, running bool) (err error) {
	p.Dir, err = d.link(at + "cwd")
	if running && errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err == nil {
		p.DirMount, err = d.mountOf(at + "cwd")
	}
	return err
}

// threads reads every thread; one that is not the main thread may end meanwhile, and that one, too, when the process is running.
func threads(d *procDir, pid int, running bool) ([]Thread, error) {
	names, err := d.names("task")
	if err != nil {
		return nil, err
	}
	if len(names) > maxThreads {
		return nil, fmt.Errorf("%d threads", len(names))
	}
	var list []Thread
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil {
			return nil, err
		}
		t, err := thread(d, "task/"+name+"/", running)
		if err != nil && (tid != pid || running) && vanished(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.TID = tid
		list = append(list, t)
	}
	return list, nil
}

func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, errEnded)
}

func thread(d *procDir, at string, running bool) (t Thread, err error) {
	if err = parsed(d, at+"status", parseStatus, &t); err != nil {
		return t, err
	}
	t.Namespaces, err = namespaces(d, at)
	switch {
	case running && errors.Is(err, fs.ErrPermission):
		return t, nil
	case err == nil && !running:
		t.Files, err = files(d, at)
	}
	return t, err
}

// kinds are those of namespaces(7), as /proc/PID/ns names them. What is "for children" is of processes to come.
var kinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}

// namespaces reads links such as "net:[4026531840]".
func namespaces(d *procDir, at string) (map[string]uint64, error) {
	found := make(map[string]uint64, len(kinds))
	for _, kind := range kinds {
		link, err := d.link(at + "ns/" + kind)
		if errors.Is(err, fs.ErrNotExist) && !slices.Contains(Separated, kind) {
			// A kernel without time namespaces, or pid_for_children of a thread that has made no process since unshare(2).
			continue
		}
		if err != nil {
			return nil, err
		}
		_, number, _ := strings.Cut(link, ":[")
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("namespace %q", link)
		}
		found[kind] = inode
	}
	return found, nil
}

func files(d *procDir, at string) ([]File, error) {
	names, err := d.names(at + "fd")
	if err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%d open files", len(names))
	}
	var list []File
	for _, name := range names {
		f, err := file(d, at, name)
		if vanished(err) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b File) int { return a.FD - b.FD })
	return list, nil
}

func file(d *procDir, at, name string) (f File, err error) {
	if f.FD, err = strconv.Atoi(name); err != nil {
		return f, err
	}
	if f.Target, err = d.link(at + "fd/" + name); err != nil {
		return f, err
	}
	err = parsed(d, at+"fdinfo/"+name, parseCloseOnExec, &f.CloseOnExec)
	return f, err
}
