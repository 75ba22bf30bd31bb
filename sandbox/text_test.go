// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/agentjail/agentjail/profiles"
)

// TestOrderKeepsBytes: an order arrives as it was sent, whatever bytes its names hold.
func TestOrderKeepsBytes(t *testing.T) {
	rule, err := profiles.ParseRule("*.example.com:8443")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "w\xff", "w\ufffd", "\xed\xa0\x80", "\u00e9", "\x00AAAA", ""} {
		plan := Plan{
			Command: []string{"printf", name}, Workdir: "/w/" + name, Env: []string{"V=" + name},
			Mounts:   []Mount{{Kind: Bind, Target: "/w/" + name, Source: "/w/" + name, Dir: true, Writable: true, Mode: 0o1777}},
			Symlinks: map[string]string{"/l" + name: name}, Rules: []profiles.Rule{rule}, Loopback: []uint16{80},
			Identity: Identity{UID: 1, Home: "/h/" + name}, Home: Home{Private: name, Names: []string{name}},
		}
		sent := buildOrder{ID: "R1", Dir: name, Plan: plan, TTYs: [3]bool{true}}
		data, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		var got buildOrder
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent, got, cmpopts.IgnoreUnexported(Plan{}),
			cmp.Comparer(func(a, b profiles.Rule) bool { return a.String() == b.String() })); diff != "" {
			t.Errorf("%q (-sent +got):\n%s", name, diff)
		}
	}
}
