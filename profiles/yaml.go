// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on a document. A policy may come out of a repository that someone
// else wrote, and the parser of package yaml is recursive and takes time that
// is quadratic in the number of keys; a stack that overflows cannot be
// recovered from, so the tokens are counted before they are parsed.
const (
	maxDocument = 1 << 20 // bytes
	maxTokens   = 1 << 16
	maxKeys     = 1 << 12
	maxDepth    = 8 // of brackets; the format needs three
)

// parseDocument returns the one mapping that a document holds.
func parseDocument(source string, text []byte) (node ast.Node, err error) {
	if len(text) > maxDocument {
		return nil, &Error{Source: source, Msg: "larger than 1 MiB"}
	}
	if err := checkText(source, text); err != nil {
		return nil, err
	}
	// A document on which the parser panics is malformed; it must not take the
	// program down with it.
	defer func() {
		if r := recover(); r != nil {
			node, err = nil, &Error{Source: source, Msg: "not valid YAML"}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(source, tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	if len(file.Docs) > 1 {
		return nil, at(source, file.Docs[1].Start, "a second document: a policy is one")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, &Error{Source: source, Msg: "empty: a policy needs at least version: 1"}
	}
	return file.Docs[0].Body, nil
}

// checkText refuses what no editor shows: bytes that are not UTF-8 and control
// characters other than line ends and tabs. A carriage return ends a line for
// YAML (section 5.4) and for no editor, which shows what follows it as a part of
// the same line, of a comment perhaps: it is one where a line feed follows.
func checkText(source string, text []byte) error {
	line, column := 1, 1
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		bad := r == utf8.RuneError && size == 1 || r == '\ufeff' ||
			unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' ||
			r == '\r' && (len(rest) == 0 || rest[0] != '\n')
		if bad {
			return &Error{Source: source, Line: line, Column: column, Msg: "a control character, or not UTF-8"}
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return nil
}

// checkTokens bounds the work of the parser and refuses the parts of YAML that
// make a text mean something else than it shows, or that the format of
// policies has no use for.
func checkTokens(source string, tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return &Error{Source: source, Msg: "too long: more than 65536 words and signs"}
	}
	keys, depth := 0, 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return at(source, tk, "anchors, aliases and merge keys are not accepted: write the values out")
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			return at(source, tk, "tags, directives and ? keys are not accepted")
		case token.LiteralType, token.FoldedType:
			return at(source, tk, "block text (| and >) is not accepted: use a quoted string")
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.MappingValueType:
			keys++
		case token.SequenceEntryType:
			if tk.Prev != nil && tk.Prev.Type == token.SequenceEntryType {
				return at(source, tk, "an empty list entry, or a list in a list")
			}
		}
		if depth > maxDepth {
			return at(source, tk, "nested too deeply")
		}
		if keys > maxKeys {
			return at(source, tk, "more than 4096 keys")
		}
	}
	return nil
}

// at makes an Error with the position of a token.
func at(source string, tk *token.Token, msg string) *Error {
	e := &Error{Source: source, Msg: msg}
	if tk != nil && tk.Position != nil {
		e.Line, e.Column = tk.Position.Line, tk.Position.Column
	}
	return e
}

// syntaxError turns an error of the YAML parser into one of ours, without the
// excerpt of the document that it carries.
func syntaxError(source string, err error) *Error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return &Error{Source: source, Msg: "not valid YAML"}
	}
	msg := syntax.GetMessage()
	if strings.ContainsFunc(msg, unicode.IsControl) || len(msg) > 2*maxShown {
		msg = show(msg)
	}
	return at(source, syntax.GetToken(), "not valid YAML: "+msg)
}

// reader turns nodes into values and remembers which document they are from.
type reader struct{ source string }

// fail makes an Error about a node from the text of another.
func (r reader) fail(n ast.Node, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Source != "" {
		return err
	}
	return at(r.source, firstToken(n), err.Error())
}

// firstToken returns where a node starts; the token that package ast keeps of
// a mapping is its first colon.
func firstToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	}
	return n.GetToken()
}

// field is a key of a mapping and how its value is read.
type field struct {
	key  string
	read func(ast.Node) error
}

// mapping reads a mapping with the given keys, and no others, each at most
// once. Null stands for an empty one: it grants nothing.
func (r reader) mapping(n ast.Node, what string, fields []field) error {
	return r.pairs(n, what, func(key, value ast.Node) error {
		name, err := r.text(key)
		if err != nil {
			return err
		}
		for _, f := range fields {
			if f.key == name {
				return f.read(value)
			}
		}
		known := make([]string, len(fields))
		for i, f := range fields {
			known[i] = f.key
		}
		return r.fail(key, errorf("unknown key %s: %s has %s", show(name), what, strings.Join(known, ", ")))
	})
}

// pairs calls fn for each key of a mapping, in the order of the text.
func (r reader) pairs(n ast.Node, what string, fn func(key, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return r.fail(n, errorf("%s must be a mapping of keys to values, not %s", what, kind(n)))
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		if seen[name] {
			return r.fail(pair.Key, errorf("key %s appears twice", show(name)))
		}
		seen[name] = true
		if err := fn(pair.Key, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

// list calls fn for each entry of a list. Null stands for an empty one.
func (r reader) list(n ast.Node, what string, fn func(ast.Node) error) error {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		for _, entry := range n.Values {
			if err := fn(entry); err != nil {
				return err
			}
		}
		return nil
	}
	return r.fail(n, errorf("%s must be a list, not %s", what, kind(n)))
}

// text reads a string. A number or a word such as true is not taken for one:
// who wants it quotes it.
func (r reader) text(n ast.Node) (string, error) {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value, nil
	}
	switch n.(type) {
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "", r.fail(n, errorf("a string is needed here, not %s: quote it if the text is meant", kind(n)))
	}
	return "", r.fail(n, errorf("a string is needed here, not %s", kind(n)))
}

// number returns the text of a number as it was written, so that the caller
// sees 0443 or 1_000 and can refuse it, or the text of a string.
func (r reader) number(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, nil
	case *ast.StringNode:
		return n.Value, nil
	}
	return "", r.fail(n, errorf("a number is needed here, not %s", kind(n)))
}

// kind names the type of a node for an error.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return "a boolean"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.StringNode:
		return "a string"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "this"
}
