// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// reporterFor returns a reporter whose callers are described by their thread.
func reporterFor(c Config) (*reporter, *events) {
	sink := &events{}
	c.Sink = sink
	c.Caller = func(tid int) audit.Process { return audit.Process{PID: tid, Exe: "/bin/x"} }
	return newReporter(&c, newHost(&c)), sink
}

func later(path string, a Action, through bool) Verdict {
	v := Verdict{When: Later, Denial: Denial{Action: a, Path: path, Errno: unix.ENOENT, Rule: RuleNotGranted, Reason: "r"}}
	if through {
		v.Answer = AnswerThrough
	}
	return v
}

func TestReportOnce(t *testing.T) {
	const a, b = uint32(10), uint32(11)
	mkdir := call(unix.SYS_MKDIRAT, 3, 4)
	by := func(c Call, tid uint32, path string, v Verdict) func(*reporter) {
		return func(r *reporter) { r.verdict(tid, Query{Path: path, Call: c}, v) }
	}
	lookup := func(tid uint32, path string, v Verdict) func(*reporter) { return by(mkdir, tid, path, v) }
	begins := func(dirfd int, at string) func(*reporter) { // the thread's calls from here on
		return func(r *reporter) {
			r.host.dirOf = func(_, fd int) (string, error) {
				if fd != dirfd {
					return "/elsewhere", nil
				}
				return at, nil
			}
		}
	}
	denied := func(tid uint32, path string, act Action) func(*reporter) {
		return func(r *reporter) { r.denied(tid, Denial{Action: act, Path: path, Errno: unix.EACCES, Rule: "x"}) }
	}
	quiet := Verdict{}
	now := later("/f", ActionStat, false)
	now.When = Now
	tests := []struct {
		name  string
		steps []func(*reporter)
		want  []string
	}{
		{"at once", []func(*reporter){lookup(a, "/f", now)}, []string{"file stat /f ENOENT"}},
		{"a create follows", []func(*reporter){
			lookup(a, "/f", later("/f", ActionOpenWrite, false)), denied(a, "/f", ActionCreate),
		}, []string{"file create /f EACCES"}},
		{"no create follows", []func(*reporter){
			lookup(a, "/f", later("/f", ActionOpenWrite, false)), lookup(a, "/g", quiet),
		}, []string{"file open-write /f ENOENT"}},
		{"nothing follows", []func(*reporter){lookup(a, "/f", later("/f", ActionOpenWrite, false))}, []string{"file open-write /f ENOENT"}},
		{"a create of another name follows", []func(*reporter){
			lookup(a, "/f", later("/f", ActionOpenWrite, false)), denied(a, "/g", ActionCreate),
		}, []string{"file open-write /f ENOENT", "file create /g EACCES"}},
		{"another thread's create follows", []func(*reporter){
			lookup(a, "/f", later("/f", ActionOpenWrite, false)), denied(b, "/f", ActionCreate),
		}, []string{"file create /f EACCES", "file open-write /f ENOENT"}},
		{"the walk goes on", []func(*reporter){
			lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d/e", quiet), denied(a, "/d/e", ActionMkdir),
		}, []string{"file mkdir /d/e EACCES"}},
		{"the walk ends", []func(*reporter){
			lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d/e", quiet),
		}, []string{"file mkdir /d ENOENT"}},
		{"another call begins there", []func(*reporter){
			lookup(a, "/d", later("/d", ActionMkdir, true)), by(call(unix.SYS_OPENAT, 3, 4), a, "/d/e", quiet),
		}, []string{"file mkdir /d ENOENT"}},
		{"another call of the same kind begins there", []func(*reporter){
			lookup(a, "/d", later("/d", ActionMkdir, true)), by(call(unix.SYS_MKDIRAT, 3, 5), a, "/d/e", quiet),
		}, []string{"file mkdir /d ENOENT"}},
		{"a call with the same arguments begins there", []func(*reporter){
			begins(3, "/jail/d"), lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d/e", quiet),
		}, []string{"file mkdir /d ENOENT"}},
		{"a call with the same arguments begins there, and it is forgotten", []func(*reporter){
			begins(3, "/jail/d (deleted)"), lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d/e", quiet),
		}, []string{"file mkdir /d ENOENT"}},
		{"the walk begins elsewhere", []func(*reporter){
			begins(5, "/d"), lookup(a, "/d", later("/d", ActionMkdir, true)), lookup(a, "/d/e", quiet),
		}, nil},
		{"the walk goes on to what needs no look at the call", []func(*reporter){
			lookup(a, "/d", later("/d", ActionMkdir, true)), by(Call{}, a, "/d/e", quiet),
		}, nil},
		{"the directory itself is listed by another call", []func(*reporter){
			by(call(unix.SYS_INOTIFY_ADD_WATCH), a, "/d", later("/d", ActionWatch, true)), denied(a, "/d", ActionList),
		}, []string{"file watch /d ENOENT", "file list /d EACCES"}},
		{"a file is not walked through", []func(*reporter){
			lookup(a, "/d", later("/d", ActionOpenWrite, false)), lookup(a, "/d/e", quiet),
		}, []string{"file open-write /d ENOENT"}},
	}
	for _, test := range tests {
		r, sink := reporterFor(Config{CallOf: func(int) (Call, bool) { return mkdir, true }})
		begins(0, "")(r)
		for _, step := range test.steps {
			step(r)
		}
		r.flush()
		r.flush()
		var got []string
		for _, e := range sink.take() {
			got = append(got, brief(e))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestReportOverdue(t *testing.T) {
	r, sink := reporterFor(Config{})
	for i := range uint32(3) {
		r.verdict(i+1, Query{Path: "/f"}, later("/f", ActionOpenWrite, false))
	}
	for deadline := time.Now().Add(time.Minute); sink.n.Load() < 3; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 3 events were made without another request", sink.n.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestReportBounded(t *testing.T) {
	r, sink := reporterFor(Config{})
	sink.off.Store(true)
	const n = maxLater + 100
	for i := range uint32(n) {
		r.verdict(i+1, Query{Path: "/f"}, later("/f", ActionOpenWrite, false))
	}
	r.mu.Lock()
	waiting := len(r.later)
	r.mu.Unlock()
	if waiting > maxLater {
		t.Errorf("%d events wait", waiting)
	}
	r.flush()
	if got := sink.n.Load(); got != n {
		t.Errorf("%d events of %d", got, n)
	}
}

func TestEventFields(t *testing.T) {
	r, sink := reporterFor(Config{
		Severity: func(p string) string {
			switch {
			case strings.HasSuffix(p, "key"):
				return audit.SeverityCredential
			case strings.HasPrefix(p, "/noise"):
				return audit.SeverityNoise
			}
			return ""
		},
		Ignore: func(tid int) bool { return tid == 66 },
	})
	report := func(tid uint32, path string, a Action, errno unix.Errno) audit.Event {
		r.denied(tid, Denial{Action: a, Path: path, Errno: errno, Rule: RuleHidden, Reason: "why"})
		all := sink.take()
		if len(all) != 1 {
			return audit.Event{}
		}
		if all[0].Time.IsZero() {
			t.Error("an event without a time")
		}
		all[0].Time = time.Time{}
		return all[0]
	}
	want := audit.Event{
		Class: audit.ClassFile, Action: "list", Decision: audit.Deny, Target: "/d", Rule: "hidden", Reason: "why", Errno: "EACCES",
		Process: audit.Process{PID: 7, Exe: "/bin/x"}, Provenance: audit.FromKernel,
	}
	if got := report(7, "/d", ActionList, unix.EACCES); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for path, want := range map[string]string{"/x": "", "/noise/x": "noise", "/a/key": "credential", "/noise/key": "credential"} {
		if got := report(7, path, ActionStat, unix.ENOENT).Severity; got != want {
			t.Errorf("severity of %s: %q, want %q", path, got, want)
		}
	}
	for a, want := range map[Action]audit.Class{
		ActionExec: audit.ClassExec, ActionConnect: audit.ClassUnix, ActionBind: audit.ClassUnix, ActionOther: audit.ClassFile,
	} {
		if got := report(7, "/x", a, unix.ENOENT).Class; got != want {
			t.Errorf("class of %s: %s, want %s", a, got, want)
		}
	}
	if got := report(7, "/x", ActionWatch, 0).Errno; got != "" {
		t.Errorf("errno %q for a call that went through", got)
	}
	if got := report(0, "/x", ActionStat, unix.ENOENT); got.PID != 0 || got.Exe != "" {
		t.Errorf("the kernel's own request is of %+v", got.Process)
	}
	if got := report(66, "/x", ActionStat, unix.ENOENT); got.Target != "" {
		t.Errorf("an ignored thread made %+v", got)
	}
	r.bug(strings.Repeat("x", 1000))
	if all := sink.take(); len(all) != 1 || all[0].Decision != audit.Report || len(all[0].Reason) > 300 {
		t.Errorf("a bug is reported as %+v", all)
	}
}
