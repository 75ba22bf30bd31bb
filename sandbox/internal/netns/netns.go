// SPDX-License-Identifier: Apache-2.0

// Package netns makes the network namespace of a run, in which every packet arrives at the run's gateway.
//
// The namespace has nothing but lo, and every address is local to it: what a program sends, to whatever address, comes back
// in on lo. One nftables chain in front hands each TCP connection and each UDP packet to a listener of the gateway (TPROXY),
// with the original destination as the local address. There is no route, no NAT and no packet anywhere else. What a program
// of the run listens on itself, on a loopback address, it gets as everywhere.
//
// The namespace belongs to the user namespace of the supervisor that makes it: nothing inside can change it.
//
// What it refuses: a kernel without nft_tproxy or nft_socket; the error says what to load. ICMP and all other protocols end
// here, since lo answers for every address; raw sockets are the syscall filter's to refuse.
package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Error says which step of making the namespace failed.
type Error struct {
	Step string
	Err  error
	fix  string
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Fix says what the user can do.
func (e *Error) Fix() string { return e.fix }

// Namespace is a run's network namespace. Its methods may be called from any goroutine.
type Namespace struct {
	file  *os.File      // the namespace itself
	work  chan func()   // runs on the thread that lives in it
	ended chan struct{} // closed by Close
	inode uint64
	tcp   []net.Listener
	udp   []*UDP
}

// New makes a namespace and its listeners. The caller is root in its own user namespace.
func New() (*Namespace, error) {
	n := &Namespace{work: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	go n.live(made)
	if err := <-made; err != nil {
		return nil, err
	}
	var err error
	n.do(func() { err = n.setUp() })
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// live is the thread in the namespace. It is never given back to the runtime: the goroutine ends locked, and the thread with it.
func (n *Namespace) live(made chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		made <- &Error{"unshare(CLONE_NEWNET)", err, "network namespaces must be allowed here"}
		return
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		made <- &Error{"open the namespace", err, ""}
		return
	}
	n.file = file
	made <- nil
	for {
		select {
		case f := <-n.work:
			f()
		case <-n.ended:
			return
		}
	}
}

// do runs f in the namespace and waits for it. After Close it does nothing.
func (n *Namespace) do(f func()) {
	done := make(chan struct{})
	select {
	case n.work <- func() { f(); close(done) }:
		<-done
	case <-n.ended:
	}
}

// setUp runs in the namespace.
func (n *Namespace) setUp() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return &Error{"fstat of the namespace", err, ""}
	}
	n.inode = st.Ino
	if err := routeAll(); err != nil {
		return err
	}
	if err := n.listen(); err != nil {
		return err
	}
	return capture(n.ports())
}

// Path names the namespace for processes that may look into this one.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Listeners are where everything arrives; they are the caller's to close.
func (n *Namespace) Listeners() ([]net.Listener, []*UDP) { return n.tcp, n.udp }

// Close gives the namespace up; it ends when the last process and socket in it do.
func (n *Namespace) Close() error {
	select {
	case <-n.ended:
		return nil
	default:
	}
	close(n.ended)
	var errs []error
	for _, l := range n.tcp {
		errs = append(errs, closed(l.Close()))
	}
	for _, u := range n.udp {
		errs = append(errs, closed(u.Close()))
	}
	return errors.Join(append(errs, n.file.Close())...)
}

// closed is nil for what the gateway has closed already.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
