// SPDX-License-Identifier: Apache-2.0

package seccomp

import "testing"

func TestOwnEntry(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/self/fd/3": "/fd/3", "/proc/thread-self/cwd/x": "/cwd/x", "//proc/.//self/./fd/3": "/fd/3", "/dev/fd/7": "/fd/7",
		"/dev/stdout": "/fd/1", "/proc/self/": "", "/proc/self": "",
	} {
		if got, ok := ownEntry(path); !ok || got != want {
			t.Errorf("%s: %q %v, want %q", path, got, ok, want)
		}
	}
	for _, path := range []string{
		"/proc/self/../1/root", "/proc/self/fd/../../1/root", "/proc/selfish", "/proc/1/fd/3", "/dev/fdx", "/dev/stdout2", "/dev/null", "/", "",
		"/home/proc/self/fd/1", "/proc/sys/kernel",
	} {
		if got, ok := ownEntry(path); ok {
			t.Errorf("%s: %q, want none", path, got)
		}
	}
}
