// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"reflect"
	"strings"
	"testing"
)

func TestSelect(t *testing.T) {
	e := Environment{
		Pass: []string{"HOME", "LC_*", "TERM"},
		Set:  map[string]string{"CI": "1", "LC_ALL": "C"},
	}
	kept, withheld := e.Select([]string{
		"TERM=xterm", "HOME=/home/u", "LC_ALL=de", "LC_TIME=de", "GITHUB_TOKEN=x", "CI=0",
		"TERM=second", "HOMER=no", "=C:=x", "NOTHING", "LC_=", "A=b=c", "GITHUB_TOKEN=y",
	})
	if want := []string{"CI=1", "HOME=/home/u", "LC_=", "LC_ALL=C", "LC_TIME=de", "TERM=xterm"}; !reflect.DeepEqual(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if want := []string{"A", "GITHUB_TOKEN", "HOMER"}; !reflect.DeepEqual(withheld, want) {
		t.Errorf("withheld %q, want %q", withheld, want)
	}
}

func TestWithEnv(t *testing.T) {
	p, err := Policy{}.WithEnv("A", "B=1", "C_*", "D=")
	if err != nil {
		t.Fatal(err)
	}
	want := Environment{Pass: []string{"A", "C_*"}, Set: map[string]string{"B": "1", "D": ""}}
	if got := p.Environment(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// The later layer decides between passing and setting.
	p, err = p.WithEnv("A=x=y", "B", "C_X=1")
	if err != nil {
		t.Fatal(err)
	}
	want = Environment{Pass: []string{"B", "C_*"}, Set: map[string]string{"A": "x=y", "C_X": "1", "D": ""}}
	if got := p.Environment(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{
		"", "=", "=x", "*", "1A", "A B", "A-B", "A*B", "A*=x", "Ä", "A\n", "A=\x00", "A=\xff",
		"A=" + strings.Repeat("x", maxValue+1),
	} {
		if got, err := (Policy{}).WithEnv(bad); err == nil {
			t.Errorf("%.20q: accepted: %+v", bad, got.Environment())
		}
	}
}

// The value of a variable may be a credential: no error repeats it.
func TestEnvironmentErrorsHideValues(t *testing.T) {
	_, err := Policy{}.WithEnv("TOKEN=canary\x00")
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}
