// SPDX-License-Identifier: Apache-2.0

package prefault

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What was advised is in force: what is allocated next lies where huge pages are wanted.
func TestInForce(t *testing.T) {
	before := flagsOf(t, address(make([]byte, chunk/16)))
	Heap()
	if slices.Contains(before, "hg") {
		t.Fatal("huge pages were wanted before")
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err == nil {
		if after := flagsOf(t, address(make([]byte, chunk/16))); !slices.Contains(after, "hg") {
			t.Errorf("memory that is allocated now has the flags %v", after)
		}
	}
}

// flagsOf are the flags of the area around an address, see proc_pid_smaps(5).
func flagsOf(t *testing.T, address uintptr) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if from, to, ok := strings.Cut(fields[0], "-"); ok {
			start, _ := strconv.ParseUint(from, 16, 64)
			end, _ := strconv.ParseUint(to, 16, 64)
			in = uintptr(start) <= address && address < uintptr(end)
		}
		if in && fields[0] == "VmFlags:" {
			return fields[1:]
		}
	}
	return nil
}
