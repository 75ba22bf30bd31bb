// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// address is a socket address as a caller passed it, copied once.
type address []byte

// maxAddress is the size of struct sockaddr_storage; the kernel refuses more (EINVAL).
const maxAddress = 128

func readAddress(tid uint32, at uint64, size uint32) (address, error) {
	if size > maxAddress {
		return nil, unix.EINVAL
	}
	buf := make([]byte, size)
	if size == 0 {
		return buf, nil
	}
	n, err := readMemory(tid, at, buf)
	if err == nil && n != int(size) {
		err = unix.EFAULT
	}
	return buf, err
}

// family is AF_UNSPEC for an address that is too short to have one.
func (a address) family() uint16 {
	if len(a) < 2 {
		return unix.AF_UNSPEC
	}
	return binary.NativeEndian.Uint16(a)
}

// port is that of an address of the network; 0 for others. struct sockaddr_in and sockaddr_in6 have it at the same place (ip(7)).
func (a address) port() uint16 {
	if family := a.family(); len(a) < 4 || family != unix.AF_INET && family != unix.AF_INET6 {
		return 0
	}
	return binary.BigEndian.Uint16(a[2:])
}

// path is the file that a unix address names; abstract and unnamed ones name none (unix(7)).
func (a address) path() (string, bool) {
	if a.family() != unix.AF_UNIX || len(a) <= 2 || a[2] == 0 {
		return "", false
	}
	name := a[2:]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	return string(name), true
}
