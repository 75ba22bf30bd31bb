// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile is what a name may hold to be taken for something else, or to move a terminal: each could stand in a file's name.
var hostile = []string{
	"\n" + `{"seq":1,"class":"run","action":"run.start","decision":"allow"}`,
	"\r\n" + `{"seq":999,"type":"allow"}` + "\r\n",
	"\x1b[2K\x1b[1A\x1b[31m", "\x1b]0;title\a", "\x1b]8;;http:\x1b\\", "\x1b]52;c;eA==\a", "\x1bP$q\x1b\\\x1b[6n",
	"\b\b\b\v\f\t\x7f", "\x9b2K\x9d0;x\x9c", "\u009b2K\u0085", "\u2028\u2029", "\u202e\u2066\u061c", "\u200b\u200d\ufeff\u00ad",
	"\U000e0041\U000e007f\ufe0f", "\u05d0\u0627", "e\u0301\u20dd", "\u3164\u2800\u00a0", "\xff\xfe\xc0\xaf", "\xed\xa0\x80\xed\xb0\x80",
	`\x1b\xff\\x9b\u202e`, `"}` + "`$(x)`" + `'<sandbox_violations>`, strings.Repeat("\x1b\xff\u202e", 30),
}

// carry does one thing for each name that it is given in hex, and nothing that prints the name.
const carry = `
import os, socket, subprocess, sys
carrier, names = sys.argv[1], [bytes.fromhex(h) for h in sys.argv[2:]]
home = os.environb[b"HOME"]
def connect(name):
    s = socket.socket(socket.AF_UNIX)
    s.connect(name)
def run(program, *argv):
    subprocess.run(argv, executable=program, stderr=subprocess.DEVNULL)
does = {
    "create": lambda n: os.open(b"/etc/" + n, os.O_CREAT | os.O_WRONLY),
    "readonly": lambda n: os.open(b"/usr/" + n, os.O_CREAT | os.O_WRONLY),
    "read": lambda n: os.open(home + b"/" + n, os.O_RDONLY),
    "stat": lambda n: os.stat(home + b"/" + n),
    "rename": lambda n: os.rename(home + b"/" + n, home + b"/taken"),
    "symlink": lambda n: os.symlink("own", b"/usr/" + n),
    "mkdir": lambda n: os.mkdir(b"/usr/" + n),
    "exec": lambda n: os.posix_spawn(home + b"/" + n, [b"x"], {}),
    "argv": lambda n: run("/bin/cat", n, "/etc/shadow"),
    "exe": lambda n: run(b"./" + n, "cat", "/etc/shadow"),
    "connect": lambda n: connect(n),
    "bind": lambda n: socket.socket(socket.AF_UNIX).bind(b"/usr/" + n),
}
for name in names:
    try:
        does[carrier](name)
    except OSError:
        pass
`

// carrier is a way on which bytes come from inside: how they get there, and where the log has them.
type carrier struct {
	name  string
	class string
	at    func(event) []string      // where such an event has the bytes
	ready func(place, string) error // makes what the attempt needs on the host
	max   int                       // of the bytes, less than NAME_MAX
}

func target(e event) []string { return []string{e.Target} }

func makeFile(dir func(place) string) func(place, string) error {
	return func(p place, name string) error { return os.WriteFile(dir(p)+"/"+name, []byte("x"), 0o755) }
}

func ofHome(p place) string { return p.home }

// carriers are all but those of the network, which Q02-carriers.txtar has: only the names of files may hold any byte.
var carriers = []carrier{
	{name: "create", class: "file", at: target},
	{name: "readonly", class: "file", at: target},
	{name: "read", class: "file", at: target, ready: makeFile(ofHome)},
	{name: "stat", class: "file", at: target, ready: makeFile(ofHome)},
	{name: "rename", class: "file", at: target, ready: makeFile(ofHome)},
	{name: "symlink", class: "file", at: target},
	{name: "mkdir", class: "file", at: target},
	{name: "exec", class: "exec", at: target, ready: makeFile(ofHome)},
	{name: "argv", class: "file", at: func(e event) []string {
		if strings.Contains(e.Exe, "forged") {
			return nil // what it calls itself is no program
		}
		return e.Argv
	}},
	{name: "exe", class: "file", at: func(e event) []string { return []string{e.Exe} }, ready: func(p place, name string) error {
		cat, err := os.ReadFile("/bin/cat")
		if err != nil {
			return err
		}
		return os.WriteFile(p.project+"/"+name, cat, 0o755)
	}},
	{name: "connect", class: "unix", at: target, ready: listenHere, max: 30},
	{name: "bind", class: "file", at: target, max: 90},
}

// listenHere makes a socket of the host in the working directory. Its path is relative: an absolute one may be too long.
func listenHere(p place, name string) error {
	dir, err := os.Open(p.project)
	if err != nil {
		return err
	}
	defer dir.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name))
	if err == nil {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		err = l.Close()
	}
	return err
}

// TestQ02Carriers: whatever a name holds, it is data of one event. The log has its exact bytes, what is shown has no byte of
// them that a terminal acts on, and no line that agentjail did not write. The attempts themselves are the twin: each is on record.
// Containment checks: M05, P01, Q03, Q04.
func TestQ02Carriers(t *testing.T) {
	needTool(t, "python3")
	for _, c := range carriers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.write(t, "carry.py", carry)
			p.write(t, "own", "x")
			// The summary has ten lines.
			for names := range slices.Chunk(hostileNames(c), 8) {
				p.carried(t, c, names)
			}
		})
	}
}

func hostileNames(c carrier) []string {
	var names []string
	for i, bytes := range hostile {
		// A name of a file has no slash, which none of these needs.
		name := fmt.Sprintf("forged-%s-%d-%s-end", c.name, i, bytes)
		if c.max == 0 || len(name) <= c.max {
			names = append(names, name)
		}
	}
	return names
}

func (p place) carried(t *testing.T, c carrier, names []string) {
	args := []string{"run", "--", "/usr/bin/python3", "carry.py", c.name}
	for _, name := range names {
		if c.ready != nil {
			if err := c.ready(p, name); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, hex.EncodeToString([]byte(name)))
	}
	stdout, stderr, code := p.run(t, "agentjail", args...)
	if code != 0 || stdout != "" {
		t.Fatalf("exit %d: %q %q", code, stdout, stderr)
	}
	events := p.ended(t)
	for _, name := range names {
		found := slices.ContainsFunc(events, func(e event) bool {
			return e.Class == c.class && e.Decision == "deny" && slices.ContainsFunc(c.at(e), func(text string) bool {
				got := string(logBytes(text))
				return got == name || strings.HasSuffix(got, "/"+name)
			})
		})
		if !found {
			t.Errorf("%q is not on record:\n%s", name, listing(events))
		}
	}
	// Each line is agentjail's: the summary's begin so, and the viewer has one for each event.
	shown := c.name != "argv"
	lines(t, stderr, "", `agentjail: |  ( |!) [a-z.-]+ |  and \d+ more`)
	p.viewed(t, names, len(events), shown, "log")
	p.viewed(t, names, -1, shown, "log", "--denied")
	if asJSON := p.must(t, "agentjail", "log", "--json"); strings.Count(asJSON, "\n") != len(events) {
		t.Errorf("log --json has %d lines for %d events", strings.Count(asJSON, "\n"), len(events))
	}
	if shown && c.name != "exe" {
		recognisable(t, stderr, names)
	}
}

func (p place) viewed(t *testing.T, names []string, events int, recognise bool, args ...string) {
	t.Helper()
	view := p.must(t, "agentjail", args...)
	n := lines(t, view, "run [0-9A-Z]{26}, ", `\d\d:\d\d:\d\d\.\d{3} (deny|report|allow) `)
	if events >= 0 && n != events+1 {
		t.Errorf("%d lines are shown for %d events:\n%q", n, events, view)
	}
	if recognise {
		recognisable(t, view, names)
	}
}

// recognisable checks that a reader can find each name, by what of it is harmless.
func recognisable(t *testing.T, text string, names []string) {
	t.Helper()
	for _, name := range names {
		if mark := name[:strings.LastIndexByte(name[:len("forged-connect-00-")], '-')+1]; !strings.Contains(text, mark) {
			t.Errorf("%q is not shown in %q", mark, text)
		}
	}
	if ends := strings.Count(text, "-end"); ends < len(names) {
		t.Errorf("%d of %d names are shown to their end: %q", ends, len(names), text)
	}
}

// lines checks that every line of a text for people begins as it must, and holds nothing that a terminal acts on, shows
// elsewhere or not at all. It returns how many there are.
func lines(t *testing.T, text, first, each string) int {
	t.Helper()
	begins := []*regexp.Regexp{regexp.MustCompile("^(?:" + first + ")"), regexp.MustCompile("^(?:" + each + ")")}
	n := 0
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		want := begins[1]
		if n == 0 && first != "" {
			want = begins[0]
		}
		if !whole || !want.MatchString(line) {
			t.Errorf("line %d is not agentjail's: %q", n+1, line)
		}
		if r, bad := harmful(line); bad {
			t.Errorf("line %d holds %U: %q", n+1, r, line)
		}
		n++
	}
	return n
}

// harmful finds in a line what must not reach a terminal.
func harmful(line string) (rune, bool) {
	for _, r := range line {
		if r == utf8.RuneError || r >= 0x590 && r <= 0x8ff || r == '\u3164' || r == '\u2800' || r == '\u00a0' ||
			unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Mn, unicode.Me) || unicode.Is(unicode.Variation_Selector, r) {
			return r, true
		}
	}
	return 0, false
}

var escapedByte = regexp.MustCompile(`\\+x[89a-f][0-9a-f]`)

// logBytes undoes what docs/events.md says of text in the log; the JSON is undone already.
func logBytes(text string) []byte {
	return []byte(escapedByte.ReplaceAllStringFunc(text, func(form string) string {
		x := strings.IndexByte(form, 'x')
		if x%2 == 0 {
			return form[:x/2] + form[x:]
		}
		b, _ := strconv.ParseUint(form[x+1:], 16, 8) // two digits, by the pattern
		return form[:x/2] + string([]byte{byte(b)})
	}))
}

// TestQ02Long: text of any length is bounded in the log, said to be cut, and still known by its beginning.
func TestQ02Long(t *testing.T) {
	t.Parallel()
	needTool(t, "python3")
	p := newPlace(t)
	p.write(t, "long.py", `
import os, subprocess
try:
    os.open("/etc/forged-long" + "\x1b" * 200, os.O_CREAT | os.O_WRONLY)
except OSError:
    pass
subprocess.run(["forged-one" + "\x1b\n\xff" * 20000, "/etc/shadow"], executable="/bin/cat", stderr=subprocess.DEVNULL)
subprocess.run(["forged-many", "/etc/shadow"] + ["\x1b\n"] * 5000, executable="/bin/cat", stderr=subprocess.DEVNULL)
`)
	stdout, stderr, code := p.run(t, "agentjail", "run", "--", "/usr/bin/python3", "long.py", strings.Repeat("\x1b\n", 30000))
	if code != 0 || stdout != "" {
		t.Fatalf("exit %d: %q %q", code, stdout, stderr)
	}
	events := p.ended(t)
	for _, mark := range []string{"forged-one", "forged-many"} {
		i := slices.IndexFunc(events, func(e event) bool { return len(e.Argv) > 0 && strings.HasPrefix(e.Argv[0], mark) })
		if i < 0 {
			t.Fatalf("%s is not on record:\n%.2000s", mark, listing(events))
		}
		if size := len(strings.Join(events[i].Argv, "")); size > 4096 || len(events[i].Argv) > 64 {
			t.Errorf("%s: argv of %d entries and %d bytes", mark, len(events[i].Argv), size)
		}
	}
	wantEvent(t, events, "deny", "file", "create", "(?s)/etc/forged-long.*")
	path, _, err := newestLog(p.state)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := 0
	for line := range strings.Lines(string(data)) {
		if len(line) > 256<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if strings.Contains(line, `"truncated":["argv"]`) {
			cut++
		}
	}
	if cut != 3 { // the third is of the script itself
		t.Errorf("%d lines say that argv was cut, not 3", cut)
	}
	lines(t, stderr, "", `agentjail: |  ( |!) [a-z.-]+ |  and \d+ more`)
	view := p.must(t, "agentjail", "log")
	if n := lines(t, view, "run [0-9A-Z]{26}, ", `\d\d:\d\d:\d\d\.\d{3} (deny|report|allow) `); n != len(events)+1 {
		t.Errorf("%d lines are shown for %d events", n, len(events))
	}
}

// TestQ02Caller: what the caller's own side gives a run (arguments, the directory, variables, files that are named on the command
// line) may come from a hostile repository, and is shown and recorded as carefully.
// Containment check: P03.
func TestQ02Caller(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const bad = "forged\x1b[2K\n\u009b\u202e\u05d0"
	dir := filepath.Join(p.project, bad)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	agentjail := func(want int, args ...string) (stdout, stderr string) {
		c := p.command("agentjail", args...)
		c.Dir, c.Env = dir, append(c.Env, "FORGED"+bad+"_TOKEN=x")
		stdout, stderr, code := finish(t, c)
		if code != want {
			t.Fatalf("%q: exit %d: %q %q", args, code, stdout, stderr)
		}
		return stdout, stderr
	}
	_, stderr := agentjail(0, "run", "--", "sh", "-c", "cat /etc/shadow 2>/dev/null; echo made >made", bad)
	lines(t, stderr, "", `agentjail: |  ( |!) [a-z.-]+ `)
	// The twin: it ran, there.
	if _, err := os.Stat(dir + "/made"); err != nil {
		t.Error(err)
	}
	events := p.ended(t)
	if !strings.Contains(string(events[0].Detail), `forged\u001b[2K\n\u009b\u202e\u05d0`) {
		t.Errorf("run.start does not have the argument: %s", events[0].Detail)
	}
	wantEvent(t, events, "deny", "-n", "1", "credential", "env.withheld", regexp.QuoteMeta("FORGED"+bad+"_TOKEN"))
	const eachEvent = `\d\d:\d\d:\d\d\.\d{3} (deny|report|allow) `
	stdout, _ := agentjail(0, "log")
	if n := lines(t, stdout, "run [0-9A-Z]{26}, ", eachEvent); n != len(events)+1 || !strings.Contains(stdout, `forged\x1b[2K\n`) {
		t.Errorf("%d lines for %d events: %q", n, len(events), stdout)
	}
	stdout, _ = agentjail(0, "log", "--list")
	if n := lines(t, stdout, "RUN ", "[0-9A-Z]{26} "); n != 2 || !strings.Contains(stdout, "forged") {
		t.Errorf("%d lines for one run: %q", n, stdout)
	}
	stdout, _ = agentjail(0, "run", "--dry-run", "--", "true", bad)
	lines(t, stdout, "", "")
	if !strings.Contains(stdout, "workdir") || !strings.Contains(stdout, "forged") {
		t.Errorf("the plan does not name the directory: %q", stdout)
	}
	for _, args := range [][]string{
		{"run", "--policy", bad, "--", "true"}, {"run", "--workdir", bad, "--", "true"}, {"run", "--ro", bad, "--", "true"},
		{"run", "--profile", bad, "--", "true"}, {"run", "--log", bad + "/x", "--", "true"}, {"run", "--env", bad, "--", "true"},
		{"run", "--" + bad}, {bad},
	} {
		_, stderr := agentjail(125, args...)
		lines(t, stderr, "agentjail: ", "  ")
		if !strings.Contains(stderr, "forged") {
			t.Errorf("%q: %q does not say what is wrong", args, stderr)
		}
	}
	_, stderr = agentjail(127, "run", "--", "./"+bad)
	lines(t, stderr, "", "agentjail: |  ")
	_, stderr = agentjail(1, "log", bad)
	lines(t, stderr, "agentjail: ", "  ")
}
