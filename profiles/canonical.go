// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Digest returns "sha256:<hex>" over the canonical encoding of the policy,
// which is the text of YAML. Two policies with the same digest grant the same;
// where a grant came from, and whether its path may be missing, is not in it.
func (p Policy) Digest() string { return digest(p.YAML()) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// YAML returns the effective policy, with everything that it extends, in the
// one form that Parse reads back as the same policy.
func (p Policy) YAML() []byte {
	w := &writer{}
	w.line("version: 1")
	w.files(p.files)
	w.network(p)
	if len(p.syscalls) > 0 {
		w.line("syscalls:")
		w.list("allow", p.syscalls)
	}
	w.environment(p.env)
	w.limits(p.limits)
	if p.logError != "" || p.logSize != 0 {
		w.line("log:")
	}
	if p.logError != "" {
		w.line("  on_error: %s", p.logError)
	}
	if p.logSize != 0 {
		w.line("  max_size: %s", FormatSize(p.logSize))
	}
	return w.buf.Bytes()
}

// writer writes the small part of YAML that the canonical form needs.
type writer struct{ buf bytes.Buffer }

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.buf, format+"\n", args...)
}

// list writes a list of strings one level deep; an empty one not at all.
func (w *writer) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	w.line("  %s:", key)
	for _, v := range values {
		w.line("    - %s", scalar(v))
	}
}

func (w *writer) files(f Files) {
	start := w.buf.Len()
	w.line("filesystem:")
	empty := w.buf.Len()
	if f.Workdir != "" {
		w.line("  workdir: %s", f.Workdir)
	}
	if f.Home != "" {
		w.line("  home: %s", f.Home)
	}
	if f.Secrets != "" {
		w.line("  secrets: %s", f.Secrets)
	}
	w.list("read", f.Read)
	w.list("write", f.Write)
	w.list("hide", f.Hide)
	w.list("protect", f.Protect)
	w.list("unprotect", f.Unprotect)
	w.list("private", f.Private)
	w.list("noise", f.Noise)
	w.toolchains(f.With)
	w.texts("provide", f.provided(), f.Provide)
	if w.buf.Len() == empty {
		w.buf.Truncate(start)
	}
}

// toolchains writes the names of sets, each with the digest of what it is in this version.
func (w *writer) toolchains(names []string) {
	if len(names) > 0 {
		w.line("  with:")
	}
	for _, name := range names {
		t, err := LookupToolchain(name)
		if err != nil {
			panic("bug: a policy names an unknown set of tools: " + err.Error())
		}
		w.line("    - %s # %s", scalar(name), t.Digest)
	}
}

func (w *writer) network(p Policy) {
	if len(p.rules)+len(p.denials)+len(p.loopback)+len(p.publish)+len(p.sockets) == 0 && p.upstream+p.proxy == "" && p.quota == (Quota{}) {
		return
	}
	w.line("network:")
	if len(p.rules) > 0 {
		w.line("  allow:")
	}
	for _, r := range p.rules {
		w.line("    - {%s%s}", destination(r), r.Requests.yaml())
	}
	if len(p.denials) > 0 {
		w.line("  deny:")
	}
	for _, d := range p.denials {
		reason := ""
		if d.Reason != "" {
			reason = ", reason: " + quote(d.Reason)
		}
		w.line("    - {%s%s}", destination(d.Rule), reason)
	}
	w.ports("loopback", p.loopback)
	w.ports("publish", p.publish)
	w.list("sockets", p.sockets)
	if p.upstream != "" {
		w.line("  upstream: %s", strconv.Quote(p.upstream))
	}
	if p.proxy != "" {
		w.line("  proxy: %s", p.proxy)
	}
	w.quota(p.quota)
}

// destination writes what a rule is about, and its ports.
func destination(r Rule) string {
	key := "host"
	if r.Host == "" {
		key = "cidr"
	}
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = p.String()
		if p.First != p.Last {
			ports[i] = strconv.Quote(ports[i])
		}
	}
	return fmt.Sprintf("%s: %s, ports: [%s]", key, strconv.Quote(r.Target()), strings.Join(ports, ", "))
}

func (w *writer) ports(key string, ports []uint16) {
	if len(ports) == 0 {
		return
	}
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	w.line("  %s: [%s]", key, strings.Join(texts, ", "))
}

func (w *writer) environment(e Environment) {
	if len(e.Pass)+len(e.Set) == 0 {
		return
	}
	w.line("environment:")
	w.list("pass", e.Pass)
	w.texts("set", e.names(), e.Set)
}

// texts writes a key with texts by names.
func (w *writer) texts(key string, names []string, texts map[string]string) {
	if len(names) > 0 {
		w.line("  %s:", key)
	}
	for _, name := range names {
		w.line("    %s: %s", scalar(name), quote(texts[name]))
	}
}

func (w *writer) limits(l Limits) {
	if l == (Limits{}) {
		return
	}
	w.line("limits:")
	if l.Memory != 0 {
		w.line("  memory: %s", FormatSize(l.Memory))
	}
	if l.Pids != 0 {
		w.line("  pids: %d", l.Pids)
	}
	if l.CPUs != 0 {
		w.line("  cpus: %s", strconv.FormatFloat(l.CPUs, 'f', -1, 64))
	}
	if l.TTL != 0 {
		w.line("  ttl: %s", l.TTL)
	}
}

// scalar writes a string plain where no reader of YAML could take it for
// anything else, and quoted otherwise. A plain one has two characters or more,
// starts like a path or with a capital letter, and holds only characters
// without meaning: that leaves out numbers, and the words for null and booleans
// are named.
func scalar(s string) string {
	path := strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~/")
	name := len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z'
	const safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/~._-+"
	if !path && !name || strings.Trim(s, safe) != "" {
		return quote(s)
	}
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "nan", "inf":
		return quote(s)
	}
	return s
}

// quote writes a double-quoted string, in which everything that is not
// printable is escaped (YAML 1.2, section 5.7).
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
