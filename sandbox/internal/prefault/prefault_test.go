// SPDX-License-Identifier: Apache-2.0

package prefault

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestReadOnly(t *testing.T) {
	const program = "00400000-00401000 r--p 00000000 fe:00 42 /bin/agentjail\n00401000-00c29000 r-xp 00001000 fe:00 42 /bin/agentjail\n"
	for name, tt := range map[string]struct {
		lines string
		want  []area
	}{
		"nothing":   {"", nil},
		"program":   {program, []area{{0x400000, 0x401000}, {0x401000, 0xc29000}}},
		"writable":  {"00400000-00401000 rw-p 00000000 fe:00 42 /bin/agentjail\n" + program, []area{{0x400000, 0x401000}, {0x401000, 0xc29000}}},
		"closed":    {"00400000-00401000 ---p 00000000 fe:00 42 /bin/agentjail\n", nil},
		"others":    {program + "00c29000-00c2a000 r--p 00000000 fe:00 43 /lib/libc.so\n", []area{{0x400000, 0x401000}, {0x401000, 0xc29000}}},
		"anonymous": {program + "00c29000-00c2a000 r--p 00000000 00:00 0 \n", []area{{0x400000, 0x401000}, {0x401000, 0xc29000}}},
		"cut off":   {program + "00c29000-00c2a000 r--p 00000000 fe:00 42 /bin/agent", []area{{0x400000, 0x401000}, {0x401000, 0xc29000}}},
		"nonsense":  {"x-y r--p 0 0 0 z\n", nil},
	} {
		if got := readOnly(tt.lines); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %x, want %x", name, got, tt.want)
		}
	}
}

// What was advised is in force: all of the program is mapped, and what is allocated next lies where huge pages are wanted.
func TestInForce(t *testing.T) {
	before := areaOf(t, address(make([]byte, chunk/16)))
	Program()
	Heap()
	if slices.Contains(before.flags, "hg") {
		t.Fatal("huge pages were wanted before")
	}
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err == nil {
		if after := areaOf(t, address(make([]byte, chunk/16))); !slices.Contains(after.flags, "hg") {
			t.Errorf("memory that is allocated now has the flags %v", after.flags)
		}
	}
	areas := mapped()
	if len(areas) == 0 {
		t.Fatal("the program was not found")
	}
	for _, a := range areas {
		if got := areaOf(t, a.start); got.resident != got.size {
			t.Errorf("of %d KiB of the program at %#x, %d are mapped", got.size, a.start, got.resident)
		}
	}
}

// described is an area as proc_pid_smaps(5) describes it.
type described struct {
	size, resident int // KiB
	flags          []string
}

func areaOf(t *testing.T, address uintptr) (found described) {
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
		switch {
		case !in:
		case fields[0] == "Size:":
			found.size, _ = strconv.Atoi(fields[1])
		case fields[0] == "Rss:":
			found.resident, _ = strconv.Atoi(fields[1])
		case fields[0] == "VmFlags:":
			found.flags = fields[1:]
		}
	}
	return found
}
