// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PublicKey is what the signatures of a log are checked with, in the form in which people pass it on: ed25519:BASE64, one word.
// The empty one is no key.
type PublicKey string

const (
	publicPrefix = "ed25519:"
	// signDomain stands before what is signed, so that no signature made for another purpose is one of a log.
	signDomain = "agentjail log head v1\n"
	keyPrefix  = "agentjail-log-key-v1"
)

// ErrPublicKey says that a text is no public key.
var ErrPublicKey = errors.New("not a public key: it is one word, ed25519: and 44 characters, as agentjail key prints it")

// ParsePublicKey reads a key that somebody passed on.
func ParsePublicKey(text string) (PublicKey, error) {
	if PublicKey(text).bytes() == nil {
		return "", ErrPublicKey
	}
	return PublicKey(text), nil
}

func publicKey(key ed25519.PublicKey) PublicKey {
	return PublicKey(publicPrefix + base64.StdEncoding.EncodeToString(key))
}

// bytes is nil where the text is no key, or is not spelled as publicKey does.
func (k PublicKey) bytes() ed25519.PublicKey {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(k), publicPrefix))
	if err != nil || len(raw) != ed25519.PublicKeySize || publicKey(raw) != k {
		return nil
	}
	return raw
}

// signed tells whether sig is the key's signature (RFC 8032) of a line.
func (k PublicKey) signed(line []byte, sig string) bool {
	key := k.bytes()
	raw, err := base64.StdEncoding.Strict().DecodeString(sig)
	return key != nil && err == nil && ed25519.Verify(key, append([]byte(signDomain), line...), raw)
}

// Key signs logs. It is made once for each user and lies in a file of their own.
type Key struct{ private ed25519.PrivateKey }

// Public is the key's other half.
func (k *Key) Public() PublicKey { return publicKey(k.private.Public().(ed25519.PublicKey)) }

func (k *Key) sign(line []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, append([]byte(signDomain), line...)))
}

// text is the content of the key's file. The public half is there to tell a key that was damaged from another key.
func (k *Key) text() string {
	return fmt.Sprintf("%s %s %s\n", keyPrefix, base64.StdEncoding.EncodeToString(k.private.Seed()), k.Public())
}

// KeyError says why a file cannot be the key that signs logs.
type KeyError struct {
	Path    string
	Problem string
	Hint    string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("%s signs the logs, and %s", Printable(e.Path), e.Problem)
}

// Fix says what the user can do.
func (e *KeyError) Fix() string { return e.Hint }

// ReadKey reads the key of a user. Where there is none, the error is fs.ErrNotExist; a file that somebody else could have read,
// written or put there is a KeyError.
func ReadKey(path string, uid int) (*Key, error) {
	// Nothing is waited for, such as the other end of a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	const remove = "find out who put it there and remove it: the next run makes a new one"
	switch {
	case errors.Is(err, unix.ELOOP): // open(2)
		return nil, &KeyError{path, "it is a symbolic link", remove}
	case err != nil:
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch mode := st.Mode & 0o7777; {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, &KeyError{path, "it is not a regular file", remove}
	case int(st.Uid) != uid:
		return nil, &KeyError{path, fmt.Sprintf("it belongs to uid %d, not to %d", st.Uid, uid), remove}
	case mode&^0o600 != 0:
		return nil, &KeyError{path, fmt.Sprintf("its mode is %#o where 0600 is due: others may know or have changed it", mode),
			"chmod 600 it if nobody else can have; otherwise remove it, and the next run makes a new one"}
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, err
	}
	if key := parseKey(string(text)); key != nil {
		return key, nil
	}
	return nil, &KeyError{path, "what it holds is no key", "put back the key from a copy, or remove the file: the next run makes a new one"}
}

// parseKey returns nil for what is not the text of a key.
func parseKey(text string) *Key {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return nil
	}
	seed, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil
	}
	key := &Key{ed25519.NewKeyFromSeed(seed)}
	if key.text() != text {
		return nil
	}
	return key
}

// openKey reads the key of a user, and makes it where there is none.
func openKey(path string, uid int) (*Key, error) {
	key, err := ReadKey(path, uid)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeKey(path); err != nil {
		return nil, err
	}
	return ReadKey(path, uid)
}

// unnamed begins the name of a key that is being made, or whose maker was killed.
const unnamed = ".log.key-"

// makingTime is more than making a key takes.
const makingTime = time.Hour

// Unfinished are the files in a state directory that processes have left which were killed while they made its key.
func Unfinished(state string) (files []fs.FileInfo, err error) {
	entries, err := os.ReadDir(state)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), unnamed) && info.Mode().IsRegular() && time.Since(info.ModTime()) > makingTime {
			files = append(files, info)
		}
	}
	return files, err
}

// makeKey makes a key's file, whole or not at all. Where another run makes one at the same time, the first stays: link(2)
// replaces nothing.
func makeKey(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), unnamed+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString((&Key{private}).text())
	// On the disk before it has its name: half a key after a power cut would refuse every run.
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	syncDir(path)
	return nil
}
