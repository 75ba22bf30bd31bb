// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"
	"net/netip"
	"testing"
)

// A port of loopback is known to be listened at by whichever address a connection to it would find, and not when nobody is there any more.
func TestListening(t *testing.T) {
	inUserNamespace(t, func(t *testing.T) {
		n, _ := watched(t)
		var l *Listening
		var err error
		inside(t, n, func() { l, err = NewListening() })
		if err != nil {
			t.Fatal(err)
		}
		at := func(address string) bool { return l.At(netip.MustParseAddrPort(address)) }
		for _, test := range []struct {
			listen string
			found  []string
		}{
			{"127.0.0.1:3000", []string{"127.0.0.1:3000", "[::1]:3000", "[::ffff:127.0.0.1]:3000", "127.9.9.9:3000"}},
			{"[::1]:3000", []string{"127.0.0.1:3000", "[::1]:3000"}},
			{"127.9.9.9:3000", []string{"127.9.9.9:3000"}},
			{"0.0.0.0:3000", []string{"127.0.0.1:3000", "127.9.9.9:3000", "[::1]:3000"}},
			{"[::]:3000", []string{"127.0.0.1:3000", "[::1]:3000"}},
		} {
			var listener net.Listener
			inside(t, n, func() { listener, err = net.Listen("tcp", test.listen) })
			if err != nil {
				t.Fatal(err)
			}
			for _, address := range test.found {
				if !at(address) {
					t.Errorf("%s: nobody at %s", test.listen, address)
				}
			}
			if at("127.0.0.1:3001") || at("[::1]:3001") {
				t.Errorf("%s: somebody at another port", test.listen)
			}
			if listener.Close(); at("127.0.0.1:3000") || at("[::1]:3000") || at("127.9.9.9:3000") {
				t.Errorf("%s: somebody after the end", test.listen)
			}
		}
		if !(*Listening)(nil).At(netip.MustParseAddrPort("127.0.0.1:3001")) {
			t.Error("what cannot be told is taken for nobody")
		}
	})
}
