// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// watch calls a function whenever one of a group's files of events changes. systemd removes a scope as soon as its last
// process is gone, and with it the count of the very kill that ended it: who looks later finds nothing.
type watch struct {
	files []int
	stop  [2]int // a pipe
	ended chan struct{}
}

func newWatch(paths []string, changed func()) (*watch, error) {
	w := &watch{ended: make(chan struct{})}
	if err := unix.Pipe2(w.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			close(w.ended)
			w.close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		w.files = append(w.files, fd)
	}
	go w.run(changed)
	return w, nil
}

// run waits for POLLPRI, which tells of a change since the file was read (cgroup-v2.rst, "Notifications").
func (w *watch) run(changed func()) {
	defer close(w.ended)
	poll := []unix.PollFd{{Fd: int32(w.stop[0]), Events: unix.POLLIN}}
	for _, fd := range w.files {
		poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI})
	}
	buf := make([]byte, 512)
	for {
		for _, p := range poll[1:] {
			unix.Pread(int(p.Fd), buf, 0)
		}
		_, err := unix.Poll(poll, -1)
		if err != nil && err != unix.EINTR || poll[0].Revents != 0 {
			return
		}
		changed()
		for i := range poll[1:] {
			// A group that is gone would report for ever; poll(2) passes over a negative number.
			if _, err := unix.Pread(w.files[i], buf, 0); err != nil {
				poll[i+1].Fd = -1
			}
		}
	}
}

func (w *watch) close() {
	unix.Close(w.stop[1])
	<-w.ended
	unix.Close(w.stop[0])
	for _, fd := range w.files {
		unix.Close(fd)
	}
}
