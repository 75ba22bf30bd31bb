// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

func lines(s string) []string {
	if s = strings.TrimRight(s, "\n"); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// parseStatus reads proc_pid_status(5). A field that is missing is an error: an older kernel must not pass for a process
// without filters.
func parseStatus(text string) (Thread, error) {
	values := map[string]string{}
	for _, line := range lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			values[name] = strings.TrimSpace(value)
		}
	}
	var t Thread
	s := status{values: values}
	t.UIDs, t.GIDs = s.ids("Uid"), s.ids("Gid")
	for _, g := range strings.Fields(s.value("Groups")) {
		t.Groups = append(t.Groups, s.number("Groups", g))
	}
	t.Caps = Caps{s.bits("CapInh"), s.bits("CapPrm"), s.bits("CapEff"), s.bits("CapBnd"), s.bits("CapAmb")}
	t.NoNewPrivs = s.number("NoNewPrivs", s.value("NoNewPrivs"))
	t.Seccomp = s.number("Seccomp", s.value("Seccomp"))
	t.Filters = s.number("Seccomp_filters", s.value("Seccomp_filters")) // Linux 5.9
	mask, err := strconv.ParseUint(s.value("Umask"), 8, 12)
	s.fail("Umask", err)
	t.Umask = int(mask)
	t.Blocked, t.Ignored, t.Caught = s.bits("SigBlk"), s.bits("SigIgn"), s.bits("SigCgt")
	return t, s.err
}

type status struct {
	values map[string]string
	err    error
}

func (s *status) fail(name string, err error) {
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (s *status) value(name string) string {
	v, ok := s.values[name]
	if !ok {
		s.fail(name, fmt.Errorf("not in the status of this kernel"))
	}
	return v
}

func (s *status) number(name, v string) int {
	n, err := strconv.ParseUint(v, 10, 32)
	s.fail(name, err)
	return int(n)
}

func (s *status) bits(name string) uint64 {
	n, err := strconv.ParseUint(s.value(name), 16, 64)
	s.fail(name, err)
	return n
}

func (s *status) ids(name string) (ids [4]int) {
	fields := strings.Fields(s.value(name))
	if len(fields) != len(ids) {
		s.fail(name, fmt.Errorf("%d ids", len(fields)))
		return ids
	}
	for i, f := range fields {
		ids[i] = s.number(name, f)
	}
	return ids
}

// parseMap reads uid_map or gid_map, user_namespaces(7).
func parseMap(text string) ([]IDRange, error) {
	var list []IDRange
	for _, line := range lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %q", line)
		}
		var v [3]uint32
		for i, f := range fields {
			n, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, err
			}
			v[i] = uint32(n)
		}
		list = append(list, IDRange{v[0], v[1], v[2]})
	}
	return list, nil
}

// limitName is the width of the first column of /proc/PID/limits ("%-25s " in fs/proc/base.c).
const limitName = 26

func parseLimits(text string) (map[string]Limit, error) {
	limits := map[string]Limit{}
	for i, line := range lines(text) {
		if i == 0 {
			continue // the heading
		}
		if len(line) < limitName {
			return nil, fmt.Errorf("line %q", line)
		}
		fields := strings.Fields(line[limitName:])
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q", line)
		}
		soft, err := parseLimit(fields[0])
		if err != nil {
			return nil, err
		}
		hard, err := parseLimit(fields[1])
		if err != nil {
			return nil, err
		}
		limits[strings.TrimSpace(line[:limitName])] = Limit{soft, hard}
	}
	return limits, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// parseMounts reads mountinfo, proc_pid_mountinfo(5): 36 35 98:0 /root /point rw,nosuid shared:1 - ext4 /dev/x rw.
// Read-only is the mount's own flag, or the whole file system's.
func parseMounts(text string) ([]Mount, error) {
	var list []Mount
	for _, line := range lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		first, second := strings.Fields(before), strings.Fields(after)
		if !ok || len(first) < 6 || len(second) < 2 {
			return nil, fmt.Errorf("line %q", line)
		}
		m := Mount{Point: unescape(first[4]), Type: second[0]}
		for _, option := range strings.Split(first[5], ",") {
			switch option {
			case "ro":
				m.ReadOnly = true
			case "nosuid":
				m.NoSuid = true
			case "nodev":
				m.NoDev = true
			case "noexec":
				m.NoExec = true
			}
		}
		if len(second) > 2 && strings.Split(second[2], ",")[0] == "ro" {
			m.ReadOnly = true
		}
		list = append(list, m)
	}
	return list, nil
}

// unescape undoes mangle_path of the kernel: space, tab, newline and backslash are \ and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseCloseOnExec reads the flags of fdinfo, proc_pid_fdinfo(5): octal, O_CLOEXEC among them.
func parseCloseOnExec(text string) (bool, error) {
	for _, line := range lines(text) {
		if v, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(v), 8, 64)
			return flags&syscall.O_CLOEXEC != 0, err
		}
	}
	return false, fmt.Errorf("no flags in fdinfo")
}
