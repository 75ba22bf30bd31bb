// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mayHold are the tries that need not leak outside of a jail, and why.
var mayHold = map[string]string{
	"A03-namespaces":     "a test knows no other namespaces than its own",
	"B05-system":         "files of root",
	"D01-sysctl":         "files of root",
	"D02-sysrq":          "a file of root, which not every kernel has",
	"D03-memory":         "files of root",
	"D05-init":           "a process of root",
	"D09-sys":            "files of root",
	"D10-cgroup":         "files of root",
	"D16-oom":            "takes CAP_SYS_RESOURCE",
	"E01-unshare-mounts": "takes CAP_SYS_ADMIN",
	"E04-setuid":         "takes CAP_SETUID",
	"F02-io-uring":       "a kernel without it, or kernel.io_uring_disabled",
	"F03-bpf":            "kernel.unprivileged_bpf_disabled",
	"F03-perf":           "a kernel without it",
	"F03-userfaultfd":    "a kernel without it",
	"F03-module":         "takes CAP_SYS_MODULE",
	"F03-kexec":          "takes CAP_SYS_BOOT",
	"F06-handle":         "takes CAP_DAC_READ_SEARCH",
	"F07-fanotify":       "a kernel without it",
	"H04-interfaces":     "a machine without a network",
	"H07-loopback6":      "a machine without IPv6",
}

// TestOutside is the twin of every jail in which all of it held: where nothing holds it, each try says so.
func TestOutside(t *testing.T) {
	bait, err := Put(os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer bait.Close()
	inherited, err := unix.Dup(0) // without close-on-exec, as a file of a parent's
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	var report bytes.Buffer
	facts := bait.Facts()
	if code := Main(facts, &report); code != 0 {
		t.Fatalf("exit %d", code)
	}
	results := bait.Judge(&report, Granted{Shows: func(string) bool { return false }}, nil)
	for _, r := range results {
		if _, may := mayHold[r.ID]; r.Verdict != Leaked && !may || r.Verdict == Silent {
			t.Errorf("%s outside of a jail: %s, %s", r.ID, r.Verdict, r.Why)
		}
	}
	if leaked := results.Count(Leaked); leaked < 30 || results.Err() == nil {
		t.Errorf("only %d leaked", leaked)
	}
}

// TestNamespacesDiffer: one that is shared is a leak, whatever the others are.
func TestNamespacesDiffer(t *testing.T) {
	for _, tt := range []struct {
		host map[string]string
		want Verdict
	}{
		{map[string]string{"pid": "pid:[1]", "net": "net:[1]"}, Held},
		{map[string]string{"pid": "pid:[1]", "time-machine": "x"}, Untestable},
		{nil, Untestable},
	} {
		if v, why := namespaces(Facts{Namespaces: tt.host}); v != tt.want {
			t.Errorf("%v: %s, %s", tt.host, v, why)
		}
	}
	host, err := hostNamespaces()
	if err != nil {
		t.Fatal(err)
	}
	host["pid"] = "pid:[1]"
	if v, _ := namespaces(Facts{Namespaces: host}); v != Leaked {
		t.Errorf("one that is not shared hides those that are: %s", v)
	}
}

func TestTable(t *testing.T) {
	seen, id := map[string]bool{}, regexp.MustCompile(`^[A-Z][0-9]{2}-[a-z0-9-]+$`)
	for _, try := range tries {
		if seen[try.id] || !id.MatchString(try.id) || try.what == "" || strings.ContainsAny(try.what, "\t\n") {
			t.Errorf("%q: %q", try.id, try.what)
		}
		seen[try.id] = true
	}
	for id := range mayHold {
		if !seen[id] {
			t.Errorf("there is no try %s", id)
		}
	}
}

// reportOf is a whole report with one verdict.
func reportOf(v Verdict, but ...string) string {
	var b strings.Builder
	for _, try := range tries {
		if !slices.Contains(but, try.id) {
			fmt.Fprintf(&b, `{"id":%q,"verdict":%q,"why":"because"}`+"\n", try.id, v)
		}
	}
	return b.String()
}

// TestHostileReports: nothing but a whole and exact report lets a try pass for one that held.
func TestHostileReports(t *testing.T) {
	whole := reportOf(Held)
	first := `{"id":"A02-privileges","verdict":"held","why":""}` + "\n"
	for name, report := range map[string]string{
		"empty":            "",
		"twice":            whole + first,
		"another try":      whole + `{"id":"Z99-all","verdict":"held","why":""}` + "\n",
		"another verdict":  `{"id":"A02-privileges","verdict":"fine","why":""}` + "\n",
		"no report":        `{"id":"A02-privileges","verdict":"no report","why":""}` + "\n",
		"another field":    `{"id":"A02-privileges","verdict":"held","why":"","all":"held"}` + "\n",
		"no verdict":       `{"id":"A02-privileges"}`,
		"no JSON":          whole + "held",
		"cut":              first[:len(first)-1],
		"another type":     `["A02-privileges","held"]`,
		"long words":       `{"id":"A02-privileges","verdict":"held","why":"` + strings.Repeat("x", maxWhy+1) + `"}` + "\n",
		"long":             whole + strings.Repeat(" ", maxReport),
		"deep":             strings.Repeat("[", 1<<15),
		"null":             "null",
		"a NUL":            "\x00",
		"numbers":          `{"id":1,"verdict":2,"why":3}`,
		"a key in capital": `{"id":"A02-privileges","verdict":"held","why":"","ID":"A03-namespaces"}` + "\n",
	} {
		bait := &Bait{}
		results := bait.Judge(strings.NewReader(report), Granted{Shows: func(string) bool { return false }}, nil)
		if n := results.Count(Held); n > 0 || results.Err() == nil || len(results) != len(tries) {
			t.Errorf("%s: %d held of %d, %v", name, n, len(results), results.Err())
		}
	}
}

func TestJudge(t *testing.T) {
	nothing := Granted{Shows: func(string) bool { return false }}
	verdict := func(bait *Bait, report string, granted Granted, failed error, id string) Result {
		results := bait.Judge(strings.NewReader(report), granted, failed)
		return results[slices.IndexFunc(results, func(r Result) bool { return r.ID == id })]
	}
	dir := t.TempDir()
	bait := &Bait{facts: Facts{Dir: dir, TCP4: 4000}, reached: map[string]bool{"H15-abstract": true}}
	whole := reportOf(Held)
	for _, tt := range []struct {
		name    string
		report  string
		granted Granted
		failed  error
		id      string
		want    Verdict
		why     string
	}{
		{"as reported", whole, nothing, nil, "B04-read", Held, "because"},
		{"as reported", reportOf(Leaked), nothing, nil, "B04-read", Leaked, "because"},
		{"left out", reportOf(Held, "E02-setns"), nothing, nil, "E02-setns", Silent, "not reported"},
		{"left out by the end", reportOf(Held, "E02-setns"), nothing, errors.New("status 137"), "E02-setns", Silent, "137"},
		{"reached, whatever is said", whole, nothing, nil, "H15-abstract", Leaked, "arrived"},
		{"granted", reportOf(Leaked), Granted{Shows: func(p string) bool { return p == dir }}, nil, "B04-read", Untestable, "grants"},
		{"granted", reportOf(Leaked), Granted{Shows: nothing.Shows, Loopback: []uint16{4000}}, nil, "H07-loopback", Untestable, "port"},
		{"allowed", reportOf(Leaked), Granted{Shows: nothing.Shows, Syscalls: []string{"debug"}}, nil, "F04-ptrace", Untestable, "debug"},
		{"another group", reportOf(Leaked), Granted{Shows: nothing.Shows, Syscalls: []string{"perf"}}, nil, "F04-ptrace", Leaked, ""},
		{"another port", reportOf(Leaked), Granted{Shows: nothing.Shows, Loopback: []uint16{4001}}, nil, "H07-loopback", Leaked, ""},
	} {
		if got := verdict(bait, tt.report, tt.granted, tt.failed, tt.id); got.Verdict != tt.want || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: %+v, want %s with %q", tt.name, got, tt.want, tt.why)
		}
	}
	gone := try{id: "D02-sysrq", paths: []string{dir + "/absent"}}
	if why := bait.void(gone, nothing); why == "" {
		t.Error("a try of what the host does not have says something")
	}
	gone.paths = append(gone.paths, dir)
	if why := bait.void(gone, nothing); why != "" {
		t.Errorf("the host has one of two: %s", why)
	}
}

func TestWrite(t *testing.T) {
	results := Results{
		{"A02-privileges", "have a capability", Held, "none"},
		{"D03-memory", "read the kernel's memory", Leaked, "/proc/\x1b[2Jkcore"},
		{"E04-setuid", "become root", Untestable, "root already"},
		{"E02-setns", "enter a namespace", Silent, "it was not reported"},
	}
	var out bytes.Buffer
	if err := results.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `CHECK           TRIED                     VERDICT       WHY
A02-privileges  have a capability         held          none
D03-memory      read the kernel's memory  leaked        /proc/\x1b[2Jkcore
E04-setuid      become root               not testable  root already
E02-setns       enter a namespace         no report     it was not reported
1 held, 1 leaked, 1 not testable, 1 without a report
`
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
	want = "D03-memory leaked: read the kernel's memory (/proc/\\x1b[2Jkcore)\nE02-setns no report: enter a namespace (it was not reported)"
	if err := results.Err(); err == nil || err.Error() != want {
		t.Errorf("error: %v", err)
	}
	if err := results[:1].Err(); err != nil {
		t.Errorf("all held: %v", err)
	}
	if (Results{}).Err() == nil {
		t.Error("a table of nothing is good")
	}
	if (Results{{ID: "A02-privileges"}}).Err() == nil {
		t.Error("no verdict at all is a good one")
	}
}

func TestMainRefusesOtherFacts(t *testing.T) {
	var out bytes.Buffer
	if code := Main("x", &out); code != 125 || out.Len() > 0 {
		t.Errorf("exit %d, %s", code, out.String())
	}
}

// TestBaitIsTheUsers: root puts nothing out as root that is for a user, nor where the user could not.
func TestBaitIsTheUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root alone has others to do it for")
	}
	const nobody = 65534
	dir := t.TempDir()
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", dir)
	if bait, err := Put(nobody, nobody); err == nil {
		bait.Close()
		t.Error("it is where the user may not write")
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	bait, err := Put(nobody, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer bait.Close()
	for _, path := range []string{"", secretFile, socketFile} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(bait.facts.Dir, path), &st); err != nil || st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%q belongs to %d:%d, %v", path, st.Uid, st.Gid, err)
		}
	}
}

// TestBaitIsTakenBack: nothing of it is left, on the host and in this process.
func TestBaitIsTakenBack(t *testing.T) {
	bait, err := Put(os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	var f Facts
	if err := json.Unmarshal([]byte(bait.Facts()), &f); err != nil {
		t.Fatal(err)
	}
	if err := bait.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(f.Dir); err == nil {
		t.Error("the directory is left")
	}
	if _, ok := os.LookupEnv(variable); ok {
		t.Error("the variable is left")
	}
	if c, err := net.Dial("unix", "@"+f.Abstract); err == nil {
		c.Close()
		t.Error("the socket is left")
	}
}
