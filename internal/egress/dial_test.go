// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
)

// Containment checks: I03, I11, I12.
func TestSpecialAddressesBehindNames(t *testing.T) {
	tests := []struct {
		what    string
		answers []string
		own     string
		dialed  string
		events  []string
	}{
		{"private", []string{"10.0.0.1"}, "", "", []string{"dial.special_address deny"}},
		{"metadata", []string{"169.254.169.254"}, "", "", []string{"dial.special_address deny"}},
		{"loopback", []string{"127.0.0.1", "::1"}, "", "", []string{"dial.special_address deny", "dial.special_address deny"}},
		{"mapped loopback", []string{"::ffff:127.0.0.1"}, "", "", []string{"dial.special_address deny"}},
		{"zone", []string{"fe80::1%eth0"}, "", "", []string{"dial.special_address deny"}},
		{"NAT64 of loopback", []string{"64:ff9b::7f00:1"}, "", "", []string{"dial.special_address deny"}},
		{"the pool", []string{"198.18.0.1"}, "", "", []string{"dial.special_address deny"}},
		{"the host's own public address", []string{"93.184.216.34"}, "93.184.216.34", "", []string{"dial.special_address deny"}},
		{"the same through NAT64", []string{"64:ff9b::5db8:d822"}, "93.184.216.34", "", []string{"dial.special_address deny"}},
		{"another through NAT64", []string{"64:ff9b::5db8:d822"}, "93.184.216.35", "[64:ff9b::5db8:d822]:2222", nil},
		{"granted", []string{"10.20.0.1"}, "", "10.20.0.1:2222", nil},
		{"granted, but the host's own", []string{"10.20.0.1"}, "10.20.0.1", "", []string{"dial.special_address deny"}},
		{"granted as the host's own", []string{"10.30.0.1"}, "10.30.0.1", "10.30.0.1:2222", nil},
		{"mixed", []string{"10.0.0.1", "93.184.216.34"}, "", "93.184.216.34:2222", []string{"dial.special_address deny"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			n := newNetwork(t, nil, "git.test:2222", "10.20.0.0/16:2222", "10.30.0.1:2222")
			n.host("git.test", tt.answers...)
			if tt.own != "" {
				n.own = []netip.Addr{netip.MustParseAddr(tt.own)}
			}
			if tt.dialed != "" {
				n.server(tt.dialed, echo)
			}
			c := n.dialName("git.test", 2222)
			send(t, c, "hello\n")
			if tt.dialed != "" {
				wantRead(t, c, "echo: hello\n")
			} else {
				wantReset(t, c)
			}
			var want []string
			for _, e := range tt.events {
				want = append(want, "net "+e+" git.test:2222")
			}
			if tt.dialed != "" {
				want = append(want, "net tcp.connect allow git.test:2222")
			}
			n.wantEvents(want...)
			if got := n.dialed(); got != tt.dialed {
				t.Errorf("dialed %q, want %q", got, tt.dialed)
			}
		})
	}
}

// Containment checks: I12.
func TestOwnAddressNeedsItsOwnRule(t *testing.T) {
	n := newNetwork(t, nil, "10.20.0.0/16:80", "10.20.0.9:81")
	n.own = []netip.Addr{netip.MustParseAddr("10.20.0.9")}
	n.server("10.20.0.9:81", echo)
	wantReset(t, n.dial("10.20.0.9:80"))
	n.wantEvents("net dial.special_address deny 10.20.0.9:80")
	c := n.dial("10.20.0.9:81")
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
}

// A name that resolves to a public address for the check and to another one afterwards has no second chance.
// Containment checks: I11.
func TestNameIsResolvedOnce(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	if strings.Join(n.looked, " ") != "git.test" || n.dialed() != "93.184.216.34:2222" {
		t.Errorf("resolved %s, dialed %s", n.looked, n.dialed())
	}
}

func TestDialFailed(t *testing.T) {
	n := newNetwork(t, nil, "down.test:2222", "nowhere.test:2222")
	n.host("down.test", "93.184.216.34")
	for name, errno := range map[string]string{"down.test": "ECONNREFUSED", "nowhere.test": ""} {
		c := n.dialName(name, 2222)
		send(t, c, "hello\n")
		wantReset(t, c)
		if e := n.log.last(t); e.Action != "dial.failed" || e.Decision != audit.Report || e.Errno != errno || e.Reason == "" {
			t.Errorf("%s: event %+v", name, e)
		}
	}
}

func TestSeveralAddresses(t *testing.T) {
	n := newNetwork(t, nil, "git.test:2222")
	n.host("git.test", "2606:4700::1", "93.184.216.33", "93.184.216.34")
	n.server("93.184.216.34:2222", echo)
	c := n.dialName("git.test", 2222)
	send(t, c, "hello\n")
	wantRead(t, c, "echo: hello\n")
	if got := n.dialed(); got != "[2606:4700::1]:2222 93.184.216.33:2222 93.184.216.34:2222" {
		t.Errorf("dialed %s", got)
	}
}

// A dead first address must not hold up the second one.
func TestRaceDoesNotWaitForADeadAddress(t *testing.T) {
	dead := make(chan struct{})
	g, err := New(Config{Sink: new(log), Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		if a.Addr().Is6() {
			<-ctx.Done()
			close(dead)
			return nil, ctx.Err()
		}
		c, _ := net.Pipe()
		return c, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.wait.stagger = time.Millisecond
	c, err := g.race(context.Background(), []netip.Addr{netip.MustParseAddr("2606:4700::1"), netip.MustParseAddr("1.1.1.1")}, 443)
	if err != nil || c == nil {
		t.Fatal(err)
	}
	<-dead
	g.Close()
}

// The seams' defaults work without a network.
func TestHostSeams(t *testing.T) {
	own, err := HostAddrs()
	if err != nil || !slices.Contains(own, loopback4) {
		t.Errorf("the host's addresses are %v, %v", own, err)
	}
	found, err := resolveHost(t.Context(), "localhost")
	if err != nil || len(found) == 0 || !found[0].Unmap().IsLoopback() {
		t.Errorf("localhost is %v, %v", found, err)
	}
	// A name that was judged is not completed by a search domain: the final dot is there.
	if _, err := resolveHost(t.Context(), "a..b"); err == nil || !strings.Contains(err.Error(), "a..b.") {
		t.Errorf("%v", err)
	}
}

func TestScreenIsBounded(t *testing.T) {
	many := make([]netip.Addr, 1000)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{1, 1, byte(i >> 8), byte(i)})
	}
	if pass, refused := screen(Access{}, many, nil, 443, true); len(pass) != maxAnswers || refused != nil {
		t.Errorf("%d addresses pass, %d do not", len(pass), len(refused))
	}
	if pass, refused := screen(Access{}, many[:1], nil, 443, false); pass != nil || len(refused) != 1 || refused[0].fix != "--allow-net 1.1.0.0:443" {
		t.Errorf("a bare address without a rule: %v, %v", pass, refused)
	}
}
