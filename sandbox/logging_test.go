// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckStream: the log's stream can be written, and the command has no way to write there.
func TestCheckStream(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closing(t, read)
	closing(t, write)
	again, err := unix.Dup(int(write.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	linked, err := os.Create(filepath.Join(t.TempDir(), "linked"))
	if err == nil {
		err = os.Link(linked.Name(), linked.Name()+"2")
	}
	if err != nil {
		t.Fatal(err)
	}
	gone := opened(t, "/dev/null")
	gone.Close()
	for name, tt := range map[string]struct {
		o  Options
		ok bool
	}{
		"none":                 {Options{Stdout: write}, true},
		"a pipe of its own":    {Options{Stdout: file, Log: LogOptions{Stream: write}}, true},
		"no standard files":    {Options{Log: LogOptions{Stream: closing(t, file)}}, true},
		"standard output":      {Options{Stdout: write, Log: LogOptions{Stream: write}}, false},
		"its duplicate":        {Options{Stderr: write, Log: LogOptions{Stream: closing(t, os.NewFile(uintptr(again), "fd"))}}, false},
		"the other end":        {Options{Stdin: read, Log: LogOptions{Stream: write}}, false},
		"open for reading":     {Options{Log: LogOptions{Stream: read}}, false},
		"closed":               {Options{Log: LogOptions{Stream: gone}}, false},
		"a file of two names":  {Options{Log: LogOptions{Stream: closing(t, linked)}}, false},
		"the same file of two": {Options{Stdout: opened(t, file.Name()), Log: LogOptions{Stream: file}}, false},
	} {
		err := tt.o.checkStream()
		var re *RequestError
		if (err == nil) != tt.ok || err != nil && !errors.As(err, &re) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckShared: a file that the command has as well may be named, but no terminal.
func TestCheckShared(t *testing.T) {
	_, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closing(t, write)
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	gone := opened(t, "/dev/null")
	gone.Close()
	for name, tt := range map[string]struct {
		shared *os.File
		ok     bool
	}{
		"none":             {nil, true},
		"a pipe":           {write, true},
		"a terminal":       {closing(t, terminal), false},
		"open for reading": {opened(t, "/dev/null"), false},
		"closed":           {gone, false},
	} {
		if err := (Options{Stderr: write, Log: LogOptions{Shared: tt.shared}}).checkShared(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckFiles: a file that the log is copied to is none that the command has.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	closing(t, out)
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"log": true, "new": true, "out": false} {
		o := Options{Stdout: out, Log: LogOptions{Files: []string{filepath.Join(dir, name)}}}
		if err := o.checkFiles(); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
