// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"os"
	"strings"
	"testing"
)

// The policies of the documentation are accepted, and the table of profiles
// names all of them, with the credentials that they pass.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	blocks := strings.Split(doc, "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no example found")
	}
	for _, b := range blocks {
		example, _, _ := strings.Cut(b, "```")
		p, err := Parse("policy.md", []byte(example))
		if err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
		if len(p.Rules()) == 0 || p.Limits() == (Limits{}) {
			t.Errorf("the example lost something:\n%s", p.YAML())
		}
	}
	for _, name := range Names() {
		if !strings.Contains(doc, "| `"+name+"` |") {
			t.Errorf("profile %s is not in the table", name)
		}
		for _, v := range named(t, name).Environment().Pass {
			if strings.Contains(v, "KEY") && !strings.Contains(doc, "`"+v+"`") {
				t.Errorf("credential %s of %s is not mentioned", v, name)
			}
		}
	}
	_, err = Parse("policy.yaml", []byte("\n\n\n\nversion: 1\n\nfilesystem:\n  hide:\n    - ~/.ssh/\n"))
	if err == nil || !strings.Contains(doc, "agentjail: "+err.Error()+"\n") {
		t.Errorf("the message of the example is now %v", err)
	}
}
