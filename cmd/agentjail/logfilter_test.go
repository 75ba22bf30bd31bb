// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

func TestHostPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern, target string
		want            bool
	}{
		{"example.com", "example.com:443", true},
		{"Example.COM.", "example.com:443", true},
		{"example.com", "EXAMPLE.com. TXT", true},
		{"example.com", "example.com", true},
		{"example.com", "www.example.com:443", false},
		{"example.com", "notexample.com:443", false},
		{"*.example.com", "www.example.com:443", true},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com:443", false},
		{"*.example.com", "notexample.com:443", false},
		{"10.0.0.0/8", "10.1.2.3:22", true},
		{"10.0.0.0/8", "11.1.2.3:22", false},
		{"10.1.2.3", "10.1.2.3:22", true},
		{"10.1.2.3", "10.1.2.30:22", false},
		{"::ffff:10.1.2.3", "10.1.2.3:22", true},
		{"::ffff:10.1.2.3", "10.1.2.30:22", false},
		{"2001:db8::/32", "[2001:db8::1]:443", true},
		{"[2001:db8::1]", "[2001:db8::1]:443", true},
		{"2001:db8::1", "10.1.2.3:22", false},
		{"10.1.2.3", "example.com:22", false},
	} {
		h, err := parseHost(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		e := audit.Event{Class: audit.ClassNet, Target: tt.target}
		if got := h.match(e); got != tt.want {
			t.Errorf("--host %s and %s: %v", tt.pattern, tt.target, got)
		}
		if e.Class = audit.ClassFile; h.match(e) {
			t.Errorf("--host %s takes a file", tt.pattern)
		}
	}
	for _, bad := range []string{"", "*", "*.", "*.*.com", "a*.com", "https://a.com", "a.com:443", ".", "a b", "*.a b", "a\x1b"} {
		if h, err := parseHost(bad); err == nil {
			t.Errorf("--host %q is %+v", bad, h)
		}
	}
}

func TestPathPattern(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if dir += "/a[b]*"; os.Mkdir(dir, 0o700) != nil {
		t.Fatal("no directory")
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "link"))
	for _, tt := range []struct {
		pattern, target string
		want            bool
	}{
		{"/etc", "/etc", true},
		{"/etc", "/etc/shadow", true},
		{"/etc/", "/etc/shadow", true},
		{"/etc", "/etcetera", false},
		{"/", "/etc/shadow", true},
		{"/home/*/.ssh", "/home/ann/.ssh/id_rsa", true},
		{"/home/*/.ssh", "/home/ann/b/.ssh/id_rsa", false},
		{".ssh", "/home/ann/.ssh/id_rsa", true},
		{"id_*", "/home/ann/.ssh/id_rsa", true},
		{"ssh", "/home/ann/.ssh/id_rsa", false},
		{"./sub", dir + "/sub/file", true},
		{".", dir + "/sub/file", true},
		{"..", dir + "/sub/file", true},
		{"./sub", "/sub/file", false},
		{`/a\*b`, "/a*b", true},
		{`/a\*b`, "/axb", false},
		{"/a\n*", "/a\n\x1b[2J", true},
		{"/etc", "", false},
		{"shadow", "connect", false},
	} {
		p, err := parsePath(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		e := audit.Event{Class: audit.ClassFile, Target: tt.target}
		if got := p.match(e); got != tt.want {
			t.Errorf("--path %s and %q: %v", tt.pattern, tt.target, got)
		}
		if e.Class = audit.ClassNet; p.match(e) {
			t.Errorf("--path %s takes a connection", tt.pattern)
		}
	}
	for _, bad := range []string{"", "/a[", `/a\`} {
		if p, err := parsePath(bad); err == nil {
			t.Errorf("--path %q is %+v", bad, p)
		}
	}
}

func TestMoment(t *testing.T) {
	zone := time.FixedZone("here", 2*60*60)
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, zone)
	start := time.Date(2026, 3, 3, 23, 30, 0, 0, time.UTC) // the 4th, here
	for text, want := range map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"0s":                   now,
		"2026-03-05T11:00:00Z": time.Date(2026, 3, 5, 11, 0, 0, 0, time.UTC),
		"2026-03-05T11:00:00":  time.Date(2026, 3, 5, 11, 0, 0, 0, zone),
		"2026-03-05 11:00:00":  time.Date(2026, 3, 5, 11, 0, 0, 0, zone),
		"2026-03-05":           time.Date(2026, 3, 5, 0, 0, 0, 0, zone),
		"08:30":                time.Date(2026, 3, 4, 8, 30, 0, 0, zone),
		"08:30:01.500":         time.Date(2026, 3, 4, 8, 30, 1, 500_000_000, zone),
	} {
		m, err := parseMoment(text, now)
		if err != nil || !m.at(start).Equal(want) {
			t.Errorf("%s is %v (%v), want %v", text, m.at(start), err, want)
		}
	}
	for _, bad := range []string{"yesterday", "-10m", "25:00", "10"} {
		if m, err := parseMoment(bad, now); err == nil {
			t.Errorf("%s is %v", bad, m)
		}
	}
}

// TestMomentAfter: a time that no event can be in is told from one that depends on when the run started.
func TestMomentAfter(t *testing.T) {
	writeRun(t, logState(t), newRun)
	for _, tt := range []struct {
		since, until string
		code         int
	}{
		{"12:00", "11:00", exitLog}, {"12:00:01", "12:00", exitLog}, {"10m", "20m", exitLog}, {"2026-03-05", "2026-03-04", exitLog},
		{"11:00", "12:00", 0}, {"12:00", "12:00", 0}, {"20m", "10m", 0}, {"12:00", "2026-03-04", 0},
	} {
		if out, errs, code := agentjail(t, "log", "--since", tt.since, "--until", tt.until); code != tt.code {
			t.Errorf("from %s to %s: exit %d: %s%s", tt.since, tt.until, code, out, errs)
		}
	}
}

// TestFilterTimes: an event that stands for many is there for as long as they lasted.
func TestFilterTimes(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 3, 5, 12, minute, 0, 0, time.UTC) }
	first, last := at(10), at(20)
	many := audit.Event{Time: at(21), First: &first, Last: &last, Count: 5}
	for _, tt := range []struct {
		since, until int
		one, many    bool // an event of 12:21, and one that counts those of 12:10 to 12:20
	}{
		{0, 59, true, true}, {20, 59, true, true}, {21, 59, true, false}, {0, 10, false, true}, {0, 9, false, false}, {22, 59, false, false},
	} {
		f := eventFilter{since: moment{time: at(tt.since)}, until: moment{time: at(tt.until)}}
		if got := f.match(audit.Event{Time: at(21)}, at(0)); got != tt.one {
			t.Errorf("%d to %d: one event: %v", tt.since, tt.until, got)
		}
		if got := f.match(many, at(0)); got != tt.many {
			t.Errorf("%d to %d: many: %v", tt.since, tt.until, got)
		}
	}
}

func TestLogFilters(t *testing.T) {
	state := logState(t)
	secret := denial("/home/u/.ssh/id_rsa")
	secret.Severity = audit.SeverityCredential
	other := denial("/etc/shadow")
	other.PID = 8
	good := audit.Event{Class: audit.ClassNet, Action: "tcp.connect", Decision: audit.Allow, Target: "good.example:443"}
	query := audit.Event{Class: audit.ClassDNS, Action: "dns.query", Decision: audit.Deny, Target: "evil.example"}
	writeRun(t, state, newRun, secret, other, good, query)
	all := []string{"run.start", "id_rsa", "/etc/shadow", "good.example", "evil.example", "run.end"}
	for _, tt := range []struct {
		args string
		want string
	}{
		{"", "run.start id_rsa /etc/shadow good.example evil.example run.end"},
		{"--class file", "id_rsa /etc/shadow"},
		{"--class net --class dns", "good.example evil.example"},
		{newRun + " --class net --class dns", "good.example evil.example"},
		{"--class net " + newRun + " --class dns", "good.example evil.example"},
		{"--decision allow", "good.example"},
		{"--decision deny --severity none", "/etc/shadow evil.example"},
		{"--severity credential", "id_rsa"},
		{"--host *.example", "good.example evil.example"},
		{"--host good.example --denied", ""},
		{"--path .ssh", "id_rsa"},
		{"--path /etc --path /home", "id_rsa /etc/shadow"},
		{"--pid 8", "/etc/shadow"},
		{"--since 1h", "run.start id_rsa /etc/shadow good.example evil.example run.end"},
		{"--until 1h", ""},
		{"--class file --json", "id_rsa /etc/shadow"},
	} {
		out, errs, code := agentjail(t, append([]string{"log"}, strings.Fields(tt.args)...)...)
		if code != 0 || errs != "" {
			t.Errorf("log %s: exit %d: %s", tt.args, code, errs)
		}
		var got []string
		for _, text := range all {
			if strings.Contains(out, text) {
				got = append(got, text)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("log %s shows %v, want %s", tt.args, got, tt.want)
		}
		if tt.want == "" && !strings.HasPrefix(out, "no such event is recorded") {
			t.Errorf("log %s printed %q", tt.args, out)
		}
	}
	for args, want := range map[string]string{
		"--class flie":              `no "flie"; there are run, file,`,
		"--decision denied":         `no "denied"; there are allow, deny, report`,
		"--severity high":           `no "high"`,
		"--host a:1":                "leave the port out",
		"--path [":                  "is no pattern",
		"--pid 0":                   "is no process",
		"--since soon":              "is no time",
		"--denied --decision allow": "leave one of the two out",
		"--list " + newRun:          "leave one of the two out",
		"--list --denied":           "--json alone goes with it",
		newRun + " --list":          "leave one of the two out",
	} {
		if out, errs, code := agentjail(t, append([]string{"log"}, strings.Fields(args)...)...); code != exitLog || out != "" || !strings.Contains(errs, want) {
			t.Errorf("log %s: exit %d, printed %s%s", args, code, out, errs)
		}
	}
}
