// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// jsonNames are the names of a type's fields in JSON, with those of the structs in it.
func jsonNames(t reflect.Type, names map[string]bool) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		names[name] = true
		jsonNames(t.Field(i).Type, names)
	}
}

// TestSummaryIsDocumented: whoever reads run --json finds every field in docs/summary.md.
func TestSummaryIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/summary.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	jsonNames(reflect.TypeFor[Result](), names)
	if !names["workspace"] || !names["troubles"] || !names["severity"] {
		t.Fatalf("only the fields %v were found", names)
	}
	for name := range names {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/summary.md does not have the field %s", name)
		}
	}
	for _, reason := range []string{reasonDeadline, reasonSupervisor, reasonLog, reasonBroken} {
		if !strings.Contains(string(doc), "`"+reason+"`") {
			t.Errorf("docs/summary.md does not have the reason %q", reason)
		}
	}
}
