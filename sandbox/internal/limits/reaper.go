// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReaperArg is the word that starts the program as the reaper of a run's group; its main function must call Reap then.
const ReaperArg = "agentjail-reaper"

// reaper is a process that removes the places of a group when its parent asks for it or dies. It is there where the parent
// gives up the right to do so itself.
//
//	parent ── paths, then nothing ──▶ stdin of the reaper; the end of it is the order to remove them
//	       ◀── what failed ────────── stdout, and the exit code
type reaper struct {
	cmd   *exec.Cmd
	order io.WriteCloser
	said  strings.Builder
}

func startReaper() (*reaper, error) {
	r := &reaper{cmd: exec.Command("/proc/self/exe")}
	r.cmd.Args = []string{"agentjail", ReaperArg}
	r.cmd.Env = []string{}
	r.cmd.Dir = "/"
	r.cmd.Stdout = &r.said
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal of the terminal is not for it
	var err error
	if r.order, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	return r, nil
}

// take tells the reaper what it will have to remove.
func (r *reaper) take(places []*place) error {
	for _, p := range places {
		if _, err := io.WriteString(r.order, p.path+"\x00"); err != nil {
			return err
		}
	}
	return nil
}

// close gives the order and waits until it was carried out.
func (r *reaper) close() error {
	r.order.Close()
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(r.said.String()))
	}
	return nil
}

// Reap is the main function of the reaper. It returns its exit code.
func Reap() int {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	// Bounded: there are three controllers.
	data, err := io.ReadAll(io.LimitReader(os.Stdin, 8*4096))
	var trees hierarchies
	if err == nil {
		trees, err = findHierarchies()
	}
	if err == nil {
		err = reap(strings.FieldsFunc(string(data), func(r rune) bool { return r == 0 }), trees, unix.Rmdir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// reap ends what is in the places and removes them. They must be groups of runs: whoever may start this program as root, and
// names the reaper by hand, must not be able to have it kill what a file of their own lists.
func reap(paths []string, trees hierarchies, rmdir func(string) error) error {
	var errs []error
	for _, path := range paths {
		if !trees.contain(path) || !isGroup(filepath.Base(path)) {
			errs = append(errs, fmt.Errorf("%q is not a run's group", path))
			continue
		}
		p, err := openPlace(path)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, p.kill(), p.remove(rmdir))
		p.close()
	}
	return errors.Join(errs...)
}

// contain tells whether a path lies in one of the trees. Nothing but the kernel makes files there, and it makes no links.
func (h hierarchies) contain(path string) bool {
	if filepath.Clean(path) != path {
		return false
	}
	if h.v2 != nil && strings.HasPrefix(path, h.v2.mount+"/") {
		return true
	}
	for _, tree := range h.v1 {
		if strings.HasPrefix(path, tree.mount+"/") {
			return true
		}
	}
	return false
}
