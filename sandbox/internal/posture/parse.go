// SPDX-License-Identifier: Apache-2.0

package posture

import (
	"errors"
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

// errEnded: a thread that has ended still has a number, and nothing else.
var errEnded = errors.New("it has ended")

// parseStatus reads proc_pid_status(5). A field that is missing is an error: an older kernel must not pass for a process
// without filters.
func parseStatus(text string) (Thread, error) {
	values := map[string]string{}
	for _, line := range lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			values[name] = strings.TrimSpace(value)
		}
	}
	if state := values["State"]; strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X") {
		return Thread{}, errEnded
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

func parseWord(text string) (string, error) { return strings.TrimSpace(text), nil }

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
