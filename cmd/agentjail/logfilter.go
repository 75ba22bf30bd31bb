// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/internal/audit"
)

// filterFlags choose events of a log. An event must pass all of the flags; for one that is given several times, one of its values
// is enough.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "denied", Usage: "only what was denied, as --decision deny"},
		&cli.StringSliceFlag{Name: "class", Usage: "only events of class `NAME`, such as file or net"},
		&cli.StringSliceFlag{Name: "decision", Usage: "only events with decision `NAME`: allow, deny or report"},
		&cli.StringSliceFlag{Name: "severity", Usage: "only events with severity `NAME`: credential, noise, or none"},
		&cli.StringSliceFlag{Name: "host", Usage: "only connections to `HOST`, and queries for it: a name, *.SUFFIX, an address or a CIDR"},
		&cli.StringSliceFlag{Name: "path", Usage: "only accesses to `PATH` and below; * ? [a-z] stand for parts of a name, a name without a slash for that name anywhere"},
		&cli.IntFlag{Name: "pid", Usage: "only events of process `N`"},
		&cli.StringFlag{Name: "since", Usage: "only events from `TIME` on: 15:04 or 15:04:05 of the day on which the run started, 2006-01-02T15:04:05, or 10m for ten minutes ago"},
		&cli.StringFlag{Name: "until", Usage: "only events up to `TIME`"},
	}
}

// eventFilter is what filterFlags say. The zero eventFilter takes every event.
type eventFilter struct {
	classes, decisions, severities []string
	hosts                          []hostPattern
	paths                          []pathPattern
	pid                            int
	since, until                   moment
}

// newFilter reads the flags. now is the time that durations count back from.
func newFilter(c *cli.Context, now time.Time) (f eventFilter, err error) {
	f = eventFilter{classes: c.StringSlice("class"), decisions: c.StringSlice("decision"), severities: c.StringSlice("severity"), pid: c.Int("pid")}
	if c.Bool("denied") {
		if len(f.decisions) > 0 {
			return f, errors.New("--denied is --decision deny; leave one of the two out")
		}
		f.decisions = []string{string(audit.Deny)}
	}
	for _, list := range []struct {
		flag         string
		given, known []string
	}{
		{"class", f.classes, audit.Classes()},
		{"decision", f.decisions, []string{string(audit.Allow), string(audit.Deny), string(audit.Report)}},
		{"severity", f.severities, []string{audit.SeverityCredential, audit.SeverityNoise, noSeverity}},
	} {
		for _, name := range list.given {
			if !slices.Contains(list.known, name) {
				return f, fmt.Errorf("--%s: there is no %q; there are %s", list.flag, name, strings.Join(list.known, ", "))
			}
		}
	}
	for _, text := range c.StringSlice("host") {
		h, err := parseHost(text)
		if err != nil {
			return f, err
		}
		f.hosts = append(f.hosts, h)
	}
	for _, text := range c.StringSlice("path") {
		p, err := parsePath(text)
		if err != nil {
			return f, err
		}
		f.paths = append(f.paths, p)
	}
	if c.IsSet("pid") && f.pid <= 0 {
		return f, fmt.Errorf("--pid: %d is no process", f.pid)
	}
	for flag, m := range map[string]*moment{"since": &f.since, "until": &f.until} {
		if *m, err = parseMoment(c.String(flag), now); err != nil {
			return f, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	if f.since.after(f.until) {
		return f, fmt.Errorf("--since %s is after --until %s: no event is in that time", c.String("since"), c.String("until"))
	}
	return f, nil
}

// noSeverity is the name of the empty severity.
const noSeverity = "none"

// anything tells whether the filter takes every event.
func (f eventFilter) anything() bool {
	return len(f.classes) == 0 && len(f.decisions) == 0 && len(f.severities) == 0 && len(f.hosts) == 0 && len(f.paths) == 0 &&
		f.pid == 0 && f.since.empty() && f.until.empty()
}

// nothing says that no event has passed.
func (f eventFilter) nothing() string {
	if denials := (eventFilter{decisions: []string{string(audit.Deny)}}); reflect.DeepEqual(f, denials) {
		return "no denial is recorded"
	}
	return "no such event is recorded"
}

// match tells whether an event passes. start is the time of the log's first event.
func (f eventFilter) match(e audit.Event, start time.Time) bool {
	severity := e.Severity
	if severity == "" {
		severity = noSeverity
	}
	first, last := e.Time, e.Time
	if e.First != nil && e.Last != nil { // of what the event counts
		first, last = *e.First, *e.Last
	}
	return among(f.classes, string(e.Class)) && among(f.decisions, string(e.Decision)) && among(f.severities, severity) &&
		(f.pid == 0 || e.PID == f.pid) &&
		(len(f.hosts) == 0 || slices.ContainsFunc(f.hosts, func(h hostPattern) bool { return h.match(e) })) &&
		(len(f.paths) == 0 || slices.ContainsFunc(f.paths, func(p pathPattern) bool { return p.match(e) })) &&
		(f.since.empty() || !last.Before(f.since.at(start))) &&
		(f.until.empty() || !first.After(f.until.at(start)))
}

func among(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

// hostPattern is a name, a suffix of names that begins with a dot, or a block of addresses.
type hostPattern struct {
	name, suffix string
	block        netip.Prefix
}

func parseHost(text string) (hostPattern, error) {
	if block, err := netip.ParsePrefix(text); err == nil {
		return hostPattern{block: block.Masked()}, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		addr = addr.Unmap() // as the log has it
		return hostPattern{block: netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	name := hostName(text)
	suffix, some := strings.CutPrefix(name, "*")
	switch {
	case some && !strings.ContainsFunc(suffix, notInNames) && strings.HasPrefix(suffix, ".") && len(suffix) > 1 && !strings.Contains(suffix, "*"):
		return hostPattern{suffix: suffix}, nil
	case name == "" || strings.ContainsAny(name, "*/:") || strings.ContainsFunc(name, notInNames):
		return hostPattern{}, fmt.Errorf("--host: %q is neither a name, *.SUFFIX, an address nor a CIDR; leave the port out", text)
	}
	return hostPattern{name: name}, nil
}

// notInNames tells of what no name of a host has.
func notInNames(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// hostName is a name in the form in which names are compared.
func hostName(text string) string { return strings.TrimSuffix(strings.ToLower(text), ".") }

func (h hostPattern) match(e audit.Event) bool {
	if e.Class != audit.ClassNet && e.Class != audit.ClassDNS {
		return false
	}
	host := e.Target
	if _, address, ok := strings.Cut(host, "://"); ok { // of a request
		host, _, _ = strings.Cut(address, "/")
		if !strings.Contains(host, ":") {
			host += ":"
		}
	}
	if addr, err := netip.ParseAddrPort(host); err == nil {
		return h.block.IsValid() && h.block.Contains(addr.Addr())
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host, _, _ = strings.Cut(host, " ") // the type of a query, where it is not an address
	host = hostName(host)
	return h.name != "" && host == h.name || h.suffix != "" && strings.HasSuffix(host, h.suffix)
}

// pathPattern is a pattern of path.Match for a whole path, or for a name of one.
type pathPattern struct {
	pattern string
	name    bool
}

// literal makes a path a pattern of itself.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func parsePath(text string) (pathPattern, error) {
	p := pathPattern{pattern: text, name: !strings.Contains(text, "/") && text != "." && text != ".."}
	if !p.name {
		if !filepath.IsAbs(text) {
			dir, err := os.Getwd()
			if err == nil {
				dir, err = filepath.EvalSymlinks(dir) // events have no links in their paths
			}
			if err != nil {
				return p, fmt.Errorf("--path: %w", err)
			}
			text = literal(dir) + "/" + text
		}
		p.pattern = path.Clean(text)
	}
	if _, err := path.Match(p.pattern, ""); err != nil || text == "" {
		return p, fmt.Errorf("--path: %q is no pattern: give a path, or a name, in which * ? and [a-z] stand for parts of a name and a backslash before them for themselves", text)
	}
	return p, nil
}

// match tells whether the target of an event is what the pattern names, or lies below that.
func (p pathPattern) match(e audit.Event) bool {
	switch e.Class {
	case audit.ClassFile, audit.ClassExec, audit.ClassUnix, audit.ClassWorkspace:
	default:
		return false
	}
	for at := e.Target; strings.HasPrefix(at, "/"); at = path.Dir(at) {
		part := at
		if p.name {
			part = path.Base(at)
		}
		if ok, _ := path.Match(p.pattern, part); ok {
			return true
		}
		if at == "/" {
			break
		}
	}
	return false
}

// moment is a time, or a time of the day on which a run started.
type moment struct {
	time  time.Time
	clock string // layout of time, where it is one of a day
}

func (m moment) empty() bool { return m.time.IsZero() && m.clock == "" }

// after tells whether a moment comes after another, whenever the run started. Of a time and one of a day, that is not known.
func (m moment) after(other moment) bool {
	return !m.empty() && !other.empty() && (m.clock == "") == (other.clock == "") && m.time.After(other.time)
}

// at is the moment, for a run that started at a time.
func (m moment) at(start time.Time) time.Time {
	if m.clock == "" {
		return m.time
	}
	y, month, d := start.In(m.time.Location()).Date()
	return time.Date(y, month, d, m.time.Hour(), m.time.Minute(), m.time.Second(), m.time.Nanosecond(), m.time.Location())
}

func parseMoment(text string, now time.Time) (moment, error) {
	if text == "" {
		return moment{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return moment{time: now.Add(-ago)}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return moment{time: t}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return moment{time: t}, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return moment{t, layout}, nil
		}
	}
	return moment{}, fmt.Errorf("%q is no time: write 15:04, 2006-01-02T15:04:05, or 10m for ten minutes ago", text)
}
