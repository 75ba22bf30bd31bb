// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// eventSchema is the published schema of the log; test.sh copies it beside the binaries.
var eventSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile(filepath.Join(suite.base, "events.schema.json"))
})

// checkSchema compares one line of a log with the schema.
func checkSchema(line []byte) error {
	schema, err := eventSchema()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// TestQ09Checked: what every other test reads of a log is checked as it is read. A good log passes; one in which
// anything is not as it must be does not, even if its hashes were made to fit.
func TestQ09Checked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write(t, p.home+"/.netrc", "x")
	p.must(t, "agentjail", "run", "--quiet", "--", "sh", "-c", "cat ~/.netrc || true")
	path, run, err := newestLog(p.state)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, text := range map[string]string{"as written": good, "chained again": chained(good)} {
		events, err := parseLog([]byte(text))
		if err := errors.Join(err, linked(events), sound(events)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	denial := strings.SplitAfter(good, "\n")[2]
	end := good[strings.LastIndex(good[:len(good)-1], "\n")+1:]
	change := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	without := func(field string) string {
		return regexp.MustCompile(`"`+field+`":("[^"]*"|\[[^]]*\]|\d+),`).ReplaceAllString(denial, "")
	}
	for name, bad := range map[string]string{
		"no such class":        change(`"class":"file"`, `"class":"files"`),
		"action of no class":   change(`"action":"open-read"`, `"action":"tcp.connect"`),
		"a field of its own":   change(`"class":"file"`, `"extra":1,"class":"file"`),
		"a field is missing":   change(`"decision":"deny",`, ``),
		"number as text":       change(`"seq":3`, `"seq":"3"`),
		"a byte of a terminal": change(`"class":"file"`, "\"class\":\"file\x7f\""),
		"cut off":              good[:len(good)-1],
		"not JSON":             good + "x\n",
	} {
		if _, err := parseLog([]byte(bad)); err == nil || bad == good {
			t.Errorf("%s: found no fault in\n%s", name, bad)
		}
	}
	for name, bad := range map[string]string{
		"another target":     change(".netrc\"", ".netrd\""),
		"another head":       change(end, regexp.MustCompile(`"head":"[^"]{4}`).ReplaceAllString(end, `"head":"0000`)),
		"a line is missing":  chained(change(denial, "")),
		"a line comes twice": chained(change(denial, denial+denial)),
		"no start":           chained(good[strings.Index(good, "\n")+1:]),
		"no end":             chained(change(end, "")),
		"two runs":           chained(change(end, strings.Replace(end, run, "01"+strings.Repeat("A", 24), 1))),
		"other counts":       chained(change(`"deny":1`, `"deny":2`)),
		"no process":         chained(change(denial, without("pid"))),
		"no program":         chained(change(denial, without("exe"))),
		"no arguments":       chained(change(denial, without("argv"))),
	} {
		events, err := parseLog([]byte(bad))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if linked(events) == nil && sound(events) == nil {
			t.Errorf("%s: found no fault in\n%s", name, bad)
		}
	}
}

var hashes = regexp.MustCompile(`"(prev|head)":"[0-9a-f]{64}"`)

// chained gives the lines of a log the hashes that fit them, as somebody would who can write the file.
func chained(log string) string {
	var b strings.Builder
	prev := strings.Repeat("0", 2*sha256.Size)
	for line := range strings.Lines(log) {
		line = hashes.ReplaceAllString(line, `"$1":"`+prev+`"`)
		b.WriteString(line)
		prev = fmt.Sprintf("%x", sha256.Sum256([]byte(strings.TrimSuffix(line, "\n"))))
	}
	return b.String()
}
