// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"io"
	"sync"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// The rules that events about quotas name: the keys of the policy.
const (
	ruleUpload      = "network.max_upload"
	ruleHostUpload  = "network.max_upload_per_host"
	ruleConnections = "network.max_connections"
)

// maxCounted bounds the hosts that are counted each for itself. What is sent to others counts as sent to one host.
const (
	maxCounted = 1 << 16
	otherHosts = "other hosts"
)

// A quotaError is a write, or a connection, that would exceed a quota.
type quotaError struct{ spent }

func (e *quotaError) Error() string { return e.reason() }

// uploads counts what was sent. It never allows a byte more than the quota.
type uploads struct {
	quota profiles.Quota

	mu    sync.Mutex
	run   tally
	hosts map[string]*tally // where there is a quota for each
}

// A tally is what was sent, and whether more was asked for than the quota allows: then nothing more is sent.
type tally struct {
	sent int64
	over bool
}

func newUploads(q profiles.Quota) *uploads { return &uploads{quota: q, hosts: map[string]*tally{}} }

// counts reports whether there is anything to keep to.
func (u *uploads) counts() bool { return u.quota.Upload > 0 || u.quota.HostUpload > 0 }

// A spent quota says which one is used up. The zero value is none.
type spent struct {
	rule   string // of the policy
	target string // of the event about it: the quota, and for whom
	first  bool   // nobody was told yet
}

// reason says for people what is used up: for the log, and for the agent, whose other hosts may have more.
func (s spent) reason() string {
	switch s.rule {
	case ruleConnections:
		return fmt.Sprintf("the run may have no more: %s (%s) is reached", s.rule, s.target)
	case ruleHostUpload:
		return fmt.Sprintf("the run may send no more to this host: %s (%s) is used up; other hosts are not concerned", s.rule, s.target)
	}
	return fmt.Sprintf("the run may send no more: %s (%s) is used up", s.rule, s.target)
}

// take counts n bytes to host, all of them or none. Once a quota has refused some, it refuses all that come after.
func (u *uploads) take(host string, n int64) spent {
	u.mu.Lock()
	defer u.mu.Unlock()
	if first, over := u.run.exceeds(n, u.quota.Upload); over {
		return spent{ruleUpload, profiles.FormatSize(u.quota.Upload), first}
	}
	if u.quota.HostUpload > 0 {
		t := u.tallyOf(&host)
		if first, over := t.exceeds(n, u.quota.HostUpload); over {
			return spent{ruleHostUpload, profiles.FormatSize(u.quota.HostUpload) + " to " + host, first}
		}
		t.sent += n
	}
	u.run.sent += n
	return spent{}
}

// tallyOf returns the tally of a host, or of all that there is no more room for, whose name host becomes.
func (u *uploads) tallyOf(host *string) *tally {
	if u.hosts[*host] == nil && len(u.hosts) >= maxCounted {
		*host = otherHosts
	}
	if u.hosts[*host] == nil {
		u.hosts[*host] = new(tally)
	}
	return u.hosts[*host]
}

// exceeds tells whether n bytes more are too many, and whether that is so for the first time. A quota of 0 is none.
func (t *tally) exceeds(n, quota int64) (first, over bool) {
	if quota == 0 || !t.over && t.sent+n <= quota {
		return false, false
	}
	first, t.over = !t.over, true
	return first, true
}

// limit writes the one event that a quota is used up.
func (g *Gateway) limit(action string, s spent) {
	if s.first {
		g.cfg.Sink.Emit(audit.Event{Class: audit.ClassLimit, Action: action, Decision: audit.Deny, Target: s.target, Rule: s.rule,
			Reason: s.reason(), Provenance: audit.FromResolved})
	}
}

// count takes n bytes of the quotas, and says that it could not: in an event about the quota, the first time, and in one about the
// connection. It returns the quota that is used up, if one is.
func (l *link) count(n int) spent {
	host := l.name
	switch {
	case l.allow.Loopback: // its two addresses are one host, whichever was asked for
		host = loopback4.String()
	case host == "":
		host = l.dst.Addr().String()
	}
	s := l.g.uploads.take(host, int64(n))
	if s.rule != "" {
		l.g.limit(actionUploadLimit, s)
		l.deny(actionUpload, s.rule, s.reason())
	}
	return s
}

// out is where what the client sends is written: to up, within the quotas. Without any, the copy between two connections stays in the
// kernel.
func (l *link) out() io.Writer {
	if !l.g.uploads.counts() {
		return l.up
	}
	return counted{l}
}

// counted writes to the server what the quotas allow.
type counted struct{ l *link }

func (c counted) Write(b []byte) (int, error) {
	if s := c.l.count(len(b)); s.rule != "" {
		return 0, &quotaError{s}
	}
	return c.l.up.Write(b)
}
