// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// Bounds of the pool. Denied names have a share of their own, so that asking for them cannot take the addresses of allowed
// ones. Both together hold at most 65,536 names of at most 253 bytes.
const (
	maxAllowedSinks = 49152
	maxDeniedSinks  = 16384
)

// The pool: an address of a name is one of these bases plus the name's number, counted from 1.
// 198.18.0.0/15 is set aside for benchmarks (RFC 2544), so that no host on the Internet has such an address. The other is a
// unique local prefix (RFC 4193) whose 40 bits spell "jail".
func sinkBase4() uint32   { return 198<<24 | 18<<16 }
func sinkBase6() [16]byte { return [16]byte{0xfd, 0x6a, 0x61, 0x69, 0x6c} }

// sinks maps names to addresses of the pool and back.
type sinks struct {
	mu      sync.Mutex
	numbers map[string]uint32
	names   []string // names[n-1] is the name of number n
	allowed int
	denied  int
	below   map[string]int // distinct names for each wildcard rule
}

// of returns the addresses of a canonical name, and assigns them at the first time. ok is false if the share of allowed or
// denied names is used up. count is the number of distinct names for the same wildcard, and not 0 for a new name only.
func (s *sinks) of(name string, allowed bool, wildcard string) (a4, a6 netip.Addr, count int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, known := s.numbers[name]; known {
		return sink4(n), sink6(n), 0, true
	}
	share, limit := &s.denied, maxDeniedSinks
	if allowed {
		share, limit = &s.allowed, maxAllowedSinks
	}
	if *share >= limit {
		return netip.Addr{}, netip.Addr{}, 0, false
	}
	*share++
	if s.numbers == nil {
		s.numbers, s.below = make(map[string]uint32), make(map[string]int)
	}
	s.names = append(s.names, name)
	n := uint32(len(s.names))
	s.numbers[name] = n
	if wildcard != "" {
		s.below[wildcard]++
		count = s.below[wildcard]
	}
	return sink4(n), sink6(n), count, true
}

// name returns the name of an address. pooled says that the address is of the pool, whether or not a name has it.
func (s *sinks) name(addr netip.Addr) (name string, pooled bool) {
	n, pooled := sinkNumber(addr)
	if !pooled {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || uint64(n) > uint64(len(s.names)) {
		return "", true
	}
	return s.names[n-1], true
}

func sink4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, sinkBase4()+n)))
}

func sink6(n uint32) netip.Addr {
	b := sinkBase6()
	binary.BigEndian.PutUint32(b[12:], n)
	return netip.AddrFrom16(b)
}

// sinkNumber undoes sink4 and sink6. An address of the pool that neither makes has number 0.
func sinkNumber(addr netip.Addr) (n uint32, pooled bool) {
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		v := binary.BigEndian.Uint32(b[:])
		return v - sinkBase4(), v&^(1<<17-1) == sinkBase4()
	}
	b, base := addr.As16(), sinkBase6()
	if [6]byte(b[:6]) != [6]byte(base[:6]) {
		return 0, false
	}
	if [6]byte(b[6:12]) != [6]byte{} {
		return 0, true
	}
	return binary.BigEndian.Uint32(b[12:]), true
}
