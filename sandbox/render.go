// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
	"github.com/agentjail/agentjail/seccomp"
)

// describe fills in what the plan says about itself: the summary of its filter, and what the run cannot see.
func (p *Plan) describe() error {
	policy, err := seccomp.Default(seccomp.Options{Allow: p.Syscalls, Looks: p.plain()})
	if err != nil {
		return err
	}
	p.Filter = policy.Summary()
	below := "a directory of the private home that is mounted natively (" + strings.Join(p.Home.Dirs, " ") + ")"
	if p.Home.Mounted {
		below = "the home, which lies in a directory that is the run's own,"
	}
	p.Coverage = append(p.lookCoverage(below),
		"files: a write whose path another thread changes while it is decided is refused by the mounts or by Landlock, and not reported",
		"files: a rename or a link from one mount to another is refused (EXDEV), after which callers copy; it is reported where a name is not granted, or what is read-only or protected would be changed",
		"files: an ioctl that only one file system knows, on a file of a read-only place, is refused by the mounts, and not reported",
	)
	p.Coverage = append(append(p.Coverage, p.unreadable()...),
		"syscalls: clone3 is answered ENOSYS, after which callers use clone; one that asks for no namespace is not reported",
		"syscalls: a call of a foreign architecture kills the process and is not reported",
	)
	if p.Protected.refuses() != nil {
		p.Coverage = append(p.Coverage,
			"files: what is protected, and lies deeper than the top of a place that may be written or is not there yet, is refused by its name: a write whose path another thread changes while it is decided gets by")
	}
	if slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Kind == Hidden && !m.Dir }) {
		p.Coverage = append(p.Coverage,
			"files: a hidden file that the host replaces with a new one, as editors do, is not hidden any more")
	}
	return nil
}

// lookCoverage is what cannot be seen of looks at files, apart from those below a place.
func (p *Plan) lookCoverage(below string) []string {
	if !p.plain() {
		return []string{
			"files: every lookup outside the grants is reported; a look below " + below + " is not",
			"files: that a directory of a guessed name exists can be told from inside",
			"files: looks for paths that exist neither here nor on the host are not reported, and for a second after such a look those for the same path are not, whatever the host makes there",
		}
	}
	return []string{
		"files: without FUSE (" + p.WithoutFUSE + ") the root is a tmpfs, and looks outside the grants are reported as the call names them; a look below " + below + " is not",
		"files: that a directory of a guessed name exists can be told from inside, by an attempt to make something in it",
		"files: a look whose path another thread changes while it is read is reported as another one, or not at all",
		"files: what the kernel looks up by itself, such as the interpreter of a script, is not reported where it is not granted",
		"files: looks for paths that exist neither here nor on the host are not reported",
		"files: a name that may not be made in the home, since the host's home has it or programs run or trust it, is refused by its name: a write whose path another thread changes while it is decided gets by, and what it made that programs run or trust is removed at the end",
	}
}

// unreadable is what cannot be seen of processes that may not be read.
func (p *Plan) unreadable() []string {
	if p.plain() {
		return []string{"files: of a process whose program belongs to another user or group, and may not be read by its owner, every write is refused, what it aimed at is not known, and what it looks at is not reported"}
	}
	return []string{
		"files: of a process that may not be read by its owner, such as a program with mode 0111, the operation is not known: the action is other",
		"files: of such a process whose program belongs to another user or group, every write is refused, and what it aimed at is not known",
	}
}

// String is the plan as --dry-run prints it.
func (p Plan) String() string {
	var b strings.Builder
	id := p.Identity
	fmt.Fprintf(&b, "policy    %s %s\n", p.Policy.Name, p.Policy.Digest)
	for _, s := range p.Policy.Sources {
		fmt.Fprintf(&b, "  from    %s %s\n", quotePath(s.Name), s.Digest)
	}
	fmt.Fprintf(&b, "command   %s\n", quoteAll(p.Command))
	fmt.Fprintf(&b, "as        %s(%d) %s(%d)\n", id.User, id.UID, id.Group, id.GID)
	fmt.Fprintf(&b, "workdir   %s\n", quoteAlways(p.Workdir))
	home := quotePath(p.Home.Private)
	if p.Home.Ephemeral {
		home = "removed at the end of the run"
	}
	fmt.Fprintf(&b, "home      %s, kept in %s\n", quotePath(id.Home), home)
	if len(p.Home.Dirs) > 0 && !p.Home.Ephemeral {
		fmt.Fprintf(&b, "caches    those of this working directory, kept in %s\n", quotePath(p.Home.Caches))
	}
	b.WriteString("\nmounts, in order\n")
	for _, m := range p.Mounts {
		fmt.Fprintf(&b, "  %-6s %s %s%s  [%s]\n", m.Kind, access(m), quotePath(m.Target), from(m), m.Origin)
	}
	p.renderLinks(&b)
	p.renderProtected(&b)
	p.renderTools(&b)
	b.WriteString("\nnetwork\n")
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "  allow  %s\n", r)
	}
	for _, d := range p.Denials {
		fmt.Fprintf(&b, "  %s%s\n", d, because(d.Reason))
	}
	for _, port := range p.Loopback {
		fmt.Fprintf(&b, "  allow  port %d of the host's loopback\n", port)
	}
	for _, port := range p.Publish {
		fmt.Fprintf(&b, "  from the host's loopback to port %d inside\n", port)
	}
	for _, path := range p.Sockets() {
		fmt.Fprintf(&b, "  the host's socket %s\n", quotePath(path))
	}
	if p.Proxies != "" {
		fmt.Fprintf(&b, "  by the proxy  %s\n", quotePath(p.Proxies))
	}
	if p.Proxy {
		fmt.Fprintf(&b, "  a proxy inside, at %s\n", profiles.ProxyAddress)
	}
	p.renderQuota(&b)
	b.WriteString("  all else is refused and recorded\n\nsystem calls\n")
	for _, line := range p.Filter {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	b.WriteString("\nenvironment\n")
	for _, v := range p.Env {
		fmt.Fprintf(&b, "  %s\n", quotePath(v))
	}
	fmt.Fprintf(&b, "  withheld: %s\n", none(quoteAll(p.Withheld)))
	p.renderLimits(&b)
	p.renderLog(&b)
	b.WriteString("\ncannot be seen\n")
	for _, line := range p.Coverage {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

func (p Plan) renderLog(b *strings.Builder) {
	if p.GoesOn || p.LogMaxSize != 0 {
		b.WriteString("\nlog\n")
	}
	if p.GoesOn {
		b.WriteString("  where it cannot be written, the command goes on, and what it is denied meanwhile is only counted\n")
	}
	if p.LogMaxSize != 0 {
		fmt.Fprintf(b, "  goes on in another file at %s\n", profiles.FormatSize(p.LogMaxSize))
	}
}

func (p Plan) renderQuota(b *strings.Builder) {
	if p.Quota.Upload != 0 {
		fmt.Fprintf(b, "  at most %s sent, to all hosts together\n", profiles.FormatSize(p.Quota.Upload))
	}
	if p.Quota.HostUpload != 0 {
		fmt.Fprintf(b, "  at most %s sent to each host\n", profiles.FormatSize(p.Quota.HostUpload))
	}
	if p.Quota.Connections != 0 {
		fmt.Fprintf(b, "  at most %d connections at once\n", p.Quota.Connections)
	}
}

// because adds the reason of a denial, which the policy has made sure to be one line that shows as it is.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (p Plan) renderLinks(b *strings.Builder) {
	if len(p.Symlinks) == 0 {
		return
	}
	b.WriteString("\nlinks\n")
	names := make([]string, 0, len(p.Symlinks))
	for name := range p.Symlinks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(b, "  %s -> %s\n", quotePath(name), quotePath(p.Symlinks[name]))
	}
}

func (p Plan) renderProtected(b *strings.Builder) {
	if len(p.Protected.Names) == 0 || len(p.Protected.Places) == 0 {
		return
	}
	fmt.Fprintf(b, "\nprotected where it may write\n  %s\n", quoteAll(p.Protected.Names))
	for _, path := range p.Protected.Paths {
		fmt.Fprintf(b, "  %s, where git is sent by a repository's settings\n", quotePath(path))
	}
}

func (p Plan) renderTools(b *strings.Builder) {
	if len(p.Tools) == 0 {
		return
	}
	b.WriteString("\ntools, where they are installed\n")
	for _, t := range p.Tools {
		fmt.Fprintf(b, "  %-6s %s\n", t.Name, orNone(len(t.Found) > 0, quoteAll(t.Found)))
	}
}

func (p Plan) renderLimits(b *strings.Builder) {
	l := p.Limits
	b.WriteString("\nlimits\n")
	fmt.Fprintf(b, "  memory %s, processes %s, cpus %s, time %s\n",
		orNone(l.Memory > 0, fmt.Sprintf("%d bytes", l.Memory)), orNone(l.Pids > 0, strconv.FormatInt(l.Pids, 10)),
		orNone(l.CPUs > 0, strconv.FormatFloat(l.CPUs, 'g', -1, 64)), orNone(l.TTL > 0, l.TTL.String()))
	if l.Memory > 0 || l.Pids > 0 || l.CPUs > 0 {
		b.WriteString("  the run gets a cgroup of its own, and sees it read-only below /sys/fs/cgroup\n")
	}
}

func access(m Mount) string {
	switch {
	case m.Kind == Hidden:
		return "--"
	case m.Writable, m.Kind == Device, m.Kind == Pts:
		return "rw"
	default:
		return "ro"
	}
}

func from(m Mount) string {
	if m.Source == "" || m.Source == m.Target {
		return ""
	}
	return " from " + quotePath(m.Source)
}

// quotePath quotes only what needs it, so that a hostile name cannot draw on the terminal: what agentjail log escapes is escaped.
func quotePath(s string) string {
	if audit.Printable(s) == s && !strings.ContainsAny(s, ` "`) {
		return s
	}
	return quoteAlways(s)
}

func quoteAlways(s string) string {
	return `"` + strings.ReplaceAll(audit.Printable(s), `"`, `\"`) + `"`
}

func quoteAll(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quotePath(w)
	}
	return strings.Join(out, " ")
}

func none(s string) string { return orNone(s != "", s) }

func orNone(ok bool, s string) string {
	if !ok {
		return "none"
	}
	return s
}
