// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// within is how a path below a place is opened (openat2(2), Linux 5.6): nothing on its way leads elsewhere.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// maxTries is how often the kernel is asked anew. It gives EAGAIN where anything was mounted or renamed on the host while it went
// through a "..", which a busy host does many times a second (openat2(2)).
const maxTries = 1000

func openBelow(dir int, path string, flags int, resolve uint64) (fd int, err error) {
	if path == "" {
		path = "."
	}
	for range maxTries {
		fd, err = unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve})
		if err != unix.EINTR && err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

// statMask is what is asked of each file.
const statMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_CTIME | unix.STATX_BTIME

func stat(dir int, name string) (st unix.Statx_t, err error) {
	err = unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
	return st, err
}

// inode tells files apart.
type inode struct {
	major, minor uint32
	ino          uint64
}

func inodeOf(st unix.Statx_t) inode { return inode{st.Dev_major, st.Dev_minor, st.Ino} }

// kindOf is the type of a file (inode(7)).
func kindOf(st unix.Statx_t) uint16 { return st.Mode & unix.S_IFMT }

// isMounted tells whether another mount begins at a name.
func isMounted(st unix.Statx_t) bool {
	return st.Attributes&st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// eachName calls f for each name of an open directory, until f returns false.
func eachName(fd int, buf []byte, f func(name string) bool) error {
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for rest := buf[:n]; len(rest) > direntName; {
			size := int(binary.NativeEndian.Uint16(rest[direntName-3:]))
			name, _, _ := bytes.Cut(rest[direntName:size], []byte{0})
			rest = rest[size:]
			if s := string(name); s != "." && s != ".." && !f(s) {
				return nil
			}
		}
	}
}

// direntName is where the name begins in a struct linux_dirent64 (getdents(2)): after inode, offset, length and type.
const direntName = 8 + 8 + 2 + 1

// maxContent is as much of a file as is read.
const maxContent = 1 << 20

var errTooLong = errors.New("it is too long to be read")

// content reads a regular file of a directory. It is found with O_PATH first, so that nothing else is ever opened: not a FIFO, which
// would wait, nor a device, which would do something.
func content(dir int, name string) ([]byte, error) {
	found, err := openBelow(dir, name, unix.O_PATH|unix.O_NOFOLLOW, within)
	if err != nil {
		return nil, err
	}
	defer unix.Close(found)
	var st unix.Stat_t
	if err := unix.Fstat(found, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.ENXIO
	}
	if st.Size > maxContent {
		return nil, errTooLong
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", found), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err == nil && len(data) > maxContent {
		err = errTooLong
	}
	return data, err
}

// known is what a file was at the start of a run.
type known struct {
	hash [sha256.Size]byte
	mode uint16
}

func knownOf(dir int, name string, mode uint16) (known, error) {
	data, err := content(dir, name)
	return known{sha256.Sum256(data), mode}, err
}

// descriptive are the fields of a package.json by which nothing is installed or run (npm's package-json documentation).
var descriptive = []string{
	"author", "bugs", "contributors", "cpu", "description", "engines", "exports", "files", "funding", "homepage", "keywords", "license", "main", "man",
	"module", "name", "os", "private", "repository", "sideEffects", "type", "types", "typings", "version",
}

// hasScripts tells whether a package.json names anything that is run, or installed, whose scripts are run then; or has settings of some
// tool. One that cannot be read as JSON may.
func hasScripts(data []byte) bool {
	var manifest map[string]json.RawMessage
	if json.Unmarshal(data, &manifest) != nil {
		return true
	}
	for key := range manifest {
		if !slices.Contains(descriptive, key) {
			return true
		}
	}
	return false
}

// leaves tells whether a symbolic link of a place leads out of it, or cannot be followed to its end without leaving it. path is its
// own in the place, at the place's. Only the kernel knows where a link leads by way of others; where it ends at what does not exist,
// the text decides.
func leaves(place int, at, path, target string) bool {
	fd, err := follow(place, at, path, target)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EXDEV || err == unix.EAGAIN // which is not known to stay inside
}

// follow opens what a symbolic link of a place leads to, with O_PATH: EXDEV is that it leads out.
func follow(place int, at, path, target string) (fd int, err error) {
	if filepath.IsAbs(target) {
		rest, ok := strings.CutPrefix(filepath.Clean(target)+"/", at+"/")
		if !ok {
			return -1, unix.EXDEV
		}
		path = strings.TrimSuffix(rest, "/")
	} else if !filepath.IsLocal(filepath.Join(filepath.Dir(path), target)) {
		return -1, unix.EXDEV
	}
	return openBelow(place, path, unix.O_PATH, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_NO_XDEV)
}
