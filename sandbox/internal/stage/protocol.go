// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// The conversation. The supervisor and the stage talk over a stream socket, the one that the stage inherits as file 3.
// The supervisor and the command's process talk over a pair of their own, the hand-over, which is close-on-exec: its end
// of file says that execve(2) succeeded, and the command never holds it.
//
//	supervisor (Parent)                  stage (pid 1)                   the command's process
//	     |<-- awake | failed -----------------| all its threads are there
//	     | put it into the cgroup             |
//	     |-- spec + end of the hand-over ---->|
//	     |                                    | session, Landlock ruleset
//	     |                                    |-- clone(NEWUSER|NEWCGROUP) ----->|
//	     |                                    | setpgid, TIOCSPGRP               | files, uid_map, capabilities,
//	     |                                    | own capabilities, own filter     | limits, chdir, Landlock, seccomp
//	     |<-- started{pid, abi} | failed -----|                                  |
//	     |<-- report{listener} + SCM_RIGHTS, or report{failed} ------------------|
//	     |<-- report{ready} -----------------------------------------------------|
//	     | compare the posture                |                                  | blocked in read
//	     |-- 1 byte: go -------------------------------------------------------->|
//	     |<-- end of file, or report{failed} ------------------------------------| execve
//	     |                                    |
//	     |-- signal{n} ---------------------->| kill
//	     |<-- stopped{n} | continued ---------| wait4
//	     |-- continue{foreground} ----------->| TIOCSPGRP, kill(SIGCONT)
//	     |<-- exited{code, signal} -----------| kill(-1, SIGKILL), exit
//	     |<-- end of file --------------------|
//
// The end of the stream in the other direction, whenever it comes, makes the stage kill everything and exit.
//
// A message on the stream is its length (4 bytes, big endian, without itself), a kind (1 byte) and a body. A report is
// 16 bytes, see report. docs/protocol.md says the same in words.
type kind uint8

const (
	kindSpec     kind = iota + 1 // to the stage: a Spec
	kindSignal                   // to the stage: u32
	kindContinue                 // to the stage: u8
	kindStarted
	kindFailed
	kindStopped
	kindContinued
	kindExited
	kindAwake
)

const (
	maxToStage  = 16 << 20 // a Spec: 6 MiB that execve(2) takes at most, the strings' lengths, the rest
	maxToParent = 1 << 10
	maxDetail   = 512
	headerSize  = 4
)

// EventKind says what happened to the command.
type EventKind uint8

// The kinds of events that Next returns.
const (
	Stopped EventKind = iota + 1
	Continued
	Exited
)

// Event is one change of the command's state.
type Event struct {
	Kind   EventKind
	Signal syscall.Signal // what stopped or killed it
	Code   int            // its exit code, where it exited by itself
}

// message is everything that the two say, but for the Spec.
type message struct {
	kind   kind
	pid    int
	abi    int
	step   Step
	errno  syscall.Errno
	detail string
	signal syscall.Signal
	code   int

	foreground bool
}

func (m message) encode() []byte {
	var e encoder
	switch m.kind {
	case kindStarted:
		e.u32(uint32(m.pid))
		e.u32(uint32(m.abi))
	case kindFailed:
		e.u32(uint32(m.step))
		e.u32(uint32(m.errno))
		e.str(m.detail[:min(len(m.detail), maxDetail)])
	case kindStopped, kindSignal:
		e.u32(uint32(m.signal))
	case kindContinue:
		e.flag(m.foreground)
	case kindExited:
		e.u32(uint32(m.code))
		e.u32(uint32(m.signal))
	}
	return frame(m.kind, e)
}

// decodeMessage checks every value: the bytes may be the command's.
func decodeMessage(data []byte) (message, error) {
	d := decoder{data: data}
	m := message{kind: kind(d.u8())}
	ok := true
	switch m.kind {
	case kindStarted:
		m.pid, m.abi = int(int32(d.u32())), int(d.u32())
		ok = m.pid > 1 && m.abi > 0 && m.abi < 1<<10
	case kindFailed:
		m.step, m.errno, m.detail = Step(d.u32()), syscall.Errno(d.u32()), clean(d.str())
		ok = m.step > 0 && m.step < stepEnd && m.errno < maxErrno && len(m.detail) <= maxDetail
	case kindStopped, kindSignal:
		m.signal = syscall.Signal(d.u32())
		ok = validSignal(m.signal)
	case kindContinue:
		m.foreground = d.u8() == 1
	case kindExited:
		m.code, m.signal = int(d.u32()), syscall.Signal(d.u32())
		ok = m.code <= 255 && (m.signal == 0 || validSignal(m.signal) && m.code == 0)
	case kindContinued, kindAwake:
	default:
		ok = false
	}
	if !ok || !d.end() {
		return message{}, &Error{Step: StepAnswer, Detail: "a message that makes no sense"}
	}
	return m, nil
}

const (
	maxErrno  = 4096 // MAX_ERRNO of the kernel
	maxSignal = 64   // _NSIG
)

func validSignal(s syscall.Signal) bool { return s > 0 && s <= maxSignal }

// clean makes text of the stage fit for a terminal: no control or format character, and nothing that is not UTF-8. What
// replaces a character is never longer, so the bound of the length holds.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func frame(k kind, body []byte) []byte {
	b := make([]byte, 0, headerSize+1+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(body)))
	return append(append(b, byte(k)), body...)
}

// readFrame reads one message of at most most bytes. io.EOF means that the other end is gone.
func readFrame(r io.Reader, most uint32) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	return readBody(r, header, most)
}

func readBody(r io.Reader, header [headerSize]byte, most uint32) ([]byte, error) {
	n := binary.BigEndian.Uint32(header[:])
	if n == 0 || n > most {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}

// report is what the command's process sends over the hand-over, in the machine's own byte order: it is written after a
// fork, where there is no code to encode it.
type report struct {
	kind  uint32
	step  Step
	errno uint32
	flags uint32
}

const (
	reportListener = 1
	reportFailed   = 2
	reportReady    = 3

	flagWaitKillable = 1 // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is on

	reportSize = 16
)

// decodeReport gives the report, or the *Error that it tells of.
func decodeReport(data []byte) (report, error) {
	bad := &Error{Step: StepAnswer, Detail: "a report that makes no sense"}
	if len(data) != reportSize {
		return report{}, bad
	}
	order := binary.NativeEndian
	r := report{order.Uint32(data), Step(order.Uint32(data[4:])), order.Uint32(data[8:]), order.Uint32(data[12:])}
	switch {
	case r.kind == reportListener, r.kind == reportReady:
		return r, nil
	case r.kind == reportFailed && r.step > 0 && r.step < stepEnd && r.errno < maxErrno:
		return r, &Error{Step: r.step, Errno: syscall.Errno(r.errno)}
	}
	return report{}, bad
}
