// SPDX-License-Identifier: Apache-2.0

package stage

import "encoding/binary"

// The encoding of a Spec and of events: integers big endian, strings and lists behind their length. JSON would not do,
// since arguments, variables and paths are any bytes but NUL and JSON holds UTF-8 only.

type encoder []byte

func (e *encoder) u8(v uint8)   { *e = append(*e, v) }
func (e *encoder) u32(v uint32) { *e = binary.BigEndian.AppendUint32(*e, v) }
func (e *encoder) u64(v uint64) { *e = binary.BigEndian.AppendUint64(*e, v) }

func (e *encoder) flag(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (e *encoder) str(s string) {
	e.u32(uint32(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) strs(list []string) {
	e.u32(uint32(len(list)))
	for _, s := range list {
		e.str(s)
	}
}

// decoder reads what encoder wrote. After the first read that does not fit, bad is set and every read gives zero.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.data) {
		d.bad = true
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// count reads the length of a list whose elements take at least size bytes each, so that a false length allocates nothing.
func (d *decoder) count(size int) int {
	n := d.u32()
	if uint64(n)*uint64(size) > uint64(len(d.data)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) str() string { return string(d.take(d.count(1))) }

func (d *decoder) strs() []string {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.str())
	}
	return list
}

// end is whether everything was read, and fitted.
func (d *decoder) end() bool { return !d.bad && len(d.data) == 0 }

func (s *Spec) encode() []byte {
	var e encoder
	e.strs(s.Argv)
	e.strs(s.Env)
	e.str(s.Dir)
	e.u32(uint32(s.UID))
	e.u32(uint32(s.GID))
	e.u32(uint32(s.Umask))
	e.u64(uint64(s.Slack))
	e.flag(s.Terminal)
	e.flag(s.Foreground)
	e.u32(uint32(len(s.Filter)))
	for _, f := range s.Filter {
		e.u64(uint64(f.Code)<<48 | uint64(f.Jt)<<40 | uint64(f.Jf)<<32 | uint64(f.K))
	}
	e.strs(s.Landlock.Write)
	for _, path := range s.Again {
		e.str(path)
	}
	e.u32(uint32(len(s.Rlimits)))
	for _, r := range s.Rlimits {
		e.u32(uint32(r.Resource))
		e.u64(r.Soft)
		e.u64(r.Hard)
	}
	return e
}

// decodeSpec reads and validates a Spec.
func decodeSpec(data []byte) (*Spec, error) {
	d := decoder{data: data}
	s := &Spec{Argv: d.strs(), Env: d.strs(), Dir: d.str()}
	s.UID, s.GID, s.Umask = int(d.u32()), int(d.u32()), int(d.u32())
	s.Slack = int(d.u64())
	s.Terminal, s.Foreground = d.u8() == 1, d.u8() == 1
	if n := d.count(8); n > 0 {
		s.Filter = make([]SockFilter, n)
	}
	for i := range s.Filter {
		v := d.u64()
		s.Filter[i] = SockFilter{Code: uint16(v >> 48), Jt: uint8(v >> 40), Jf: uint8(v >> 32), K: uint32(v)}
	}
	s.Landlock.Write = d.strs()
	for i := range s.Again {
		s.Again[i] = d.str()
	}
	for range d.count(20) {
		s.Rlimits = append(s.Rlimits, Rlimit{Resource: int(d.u32()), Soft: d.u64(), Hard: d.u64()})
	}
	if !d.end() {
		return nil, &Error{Step: StepSpec, Detail: "the message does not hold a spec"}
	}
	return s, s.Validate()
}
