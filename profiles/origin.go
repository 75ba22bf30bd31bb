// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// Origin is a place where an entry of a policy was written. It is no part of what the policy grants, nor of its digest.
type Origin struct {
	Key    string `json:"key"`   // of the list or value, such as "read", "hide" or "allow"
	Entry  string `json:"entry"` // as the policy has it; a rule of "allow" by its target
	Source string `json:"source,omitempty"`
	Line   int    `json:"line,omitempty"` // both count from 1; 0 where the source is no document
	Column int    `json:"column,omitempty"`
}

// String is "policy.yaml:9:7", and empty for what a modifier added.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.Source
	}
	return fmt.Sprintf("%s:%d:%d", o.Source, o.Line, o.Column)
}

// Origins returns where an entry was written, in the order of the layers: none for one that no layer has. What a modifier added has no
// source.
func (p Policy) Origins(key, entry string) []Origin {
	return slices.DeleteFunc(slices.Clone(p.origins), func(o Origin) bool { return o.Key != key || o.Entry != entry })
}

// originsWith adds the origins of another layer. Layers that extend the same profile share its origins.
func (p Policy) originsWith(over Policy) []Origin {
	out := slices.Clone(p.origins)
	known := map[string]bool{}
	for _, s := range p.sources {
		known[s.Name] = true
	}
	for _, o := range over.origins {
		if o.Source == "" || !known[o.Source] {
			out = append(out, o)
		}
	}
	return out
}

// note remembers where an entry of the document was read.
func (d *decoder) note(key, entry string, n ast.Node) {
	o := Origin{Key: key, Entry: entry, Source: d.source}
	if tk := firstToken(n); tk != nil && tk.Position != nil {
		o.Line, o.Column = tk.Position.Line, tk.Position.Column
	}
	d.layer.origins = append(d.layer.origins, o)
}
