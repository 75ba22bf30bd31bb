// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// testKey is the same key each time, one for each byte.
func testKey(b byte) *Key {
	return &Key{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))}
}

func TestOpenKeyMakesItOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log.key")
	if _, err := ReadKey(path, os.Getuid()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a key: %v", err)
	}
	var keys [16]PublicKey
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, err := openKey(path, os.Getuid())
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = key.Public()
		})
	}
	wg.Wait()
	for _, key := range keys {
		if key == "" || key != keys[0] {
			t.Errorf("keys %v", keys)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v (%v)", st, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("beside the key there is %v (%v)", files, err)
	}
	other, err := openKey(filepath.Join(t.TempDir(), "log.key"), os.Getuid())
	if err != nil || other.Public() == keys[0] {
		t.Errorf("two keys are the same, or %v", err)
	}
}

func TestReadKeyRefuses(t *testing.T) {
	good := testKey(1).text()
	write := func(text string, mode os.FileMode) func(string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode))
		}
	}
	tests := []struct {
		name    string
		make    func(path string) error
		uid     int
		problem string // empty: it is read
	}{
		{"good", write(good, 0o600), 0, ""},
		{"read-only", write(good, 0o400), 0, ""},
		{"open to the group", write(good, 0o640), 0, "mode is 0640"},
		{"open to all", write(good, 0o604), 0, "mode is 0604"},
		{"set-user-id", write(good, 0o600|os.ModeSetuid), 0, "mode is 04600"},
		{"of another user", write(good, 0o600), 1, "belongs to uid"},
		{"empty", write("", 0o600), 0, "no key"},
		{"half", write(good[:len(good)/2], 0o600), 0, "no key"},
		{"without its end", write(good[:len(good)-1], 0o600), 0, "no key"},
		{"and more", write(good+"x", 0o600), 0, "no key"},
		{"very long", write(good+strings.Repeat(" ", 1<<20), 0o600), 0, "no key"},
		{"two halves", write(strings.Replace(good, string(testKey(1).Public()), string(testKey(2).Public()), 1), 0o600), 0, "no key"},
		{"of another form", write(strings.Replace(good, "v1", "v2", 1), 0o600), 0, "no key"},
		{"a link", func(path string) error { return os.Symlink("/etc/passwd", path) }, 0, "symbolic link"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, 0, "regular file"},
		{"a pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, 0, "regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.key")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			key, err := openKey(path, os.Getuid()+tt.uid)
			if tt.problem == "" {
				if err != nil || key.Public() != testKey(1).Public() {
					t.Errorf("%v", err)
				}
				return
			}
			var refused *KeyError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.problem) || refused.Fix() == "" {
				t.Errorf("%v; want %s", err, tt.problem)
			}
			if strings.Contains(err.Error(), strings.Fields(good)[1]) {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestParsePublicKey(t *testing.T) {
	good := string(testKey(1).Public())
	if key, err := ParsePublicKey(good); err != nil || string(key) != good {
		t.Errorf("%s: %v", good, err)
	}
	for _, bad := range []string{
		"", " " + good, good + "\n", good + "=", strings.ToUpper(good), good[len("ed25519:"):], "ed25519:", good[:len(good)-4], good + "AAAA",
		testKey(1).text(), strings.TrimRight(good, "="),
	} {
		if _, err := ParsePublicKey(bad); !errors.Is(err, ErrPublicKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzKey: a text is a key's only as it was written.
func FuzzKey(f *testing.F) {
	f.Add(testKey(1).text())
	f.Add(string(testKey(1).Public()))
	f.Add("agentjail-log-key-v1  \n")
	f.Fuzz(func(t *testing.T, text string) {
		if key := parseKey(text); key != nil && key.text() != text {
			t.Errorf("%q is read as %q", text, key.text())
		}
		if key, err := ParsePublicKey(text); err == nil && (string(key) != text || publicKey(key.bytes()) != key) {
			t.Errorf("%q is read as %q", text, key)
		}
	})
}
