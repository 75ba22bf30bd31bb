// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Error says what is wrong with a policy and where. Its text never repeats
// more than a short, quoted part of the input.
type Error struct {
	// Source names the document, as the caller of Parse gave it; empty for a
	// value that did not come from a document, such as that of a flag.
	Source string
	// Line and Column count from 1, in characters; both are 0 when the error
	// is about the document as a whole.
	Line, Column int
	// Msg says what is wrong and, where that is not plain, what to write.
	Msg string
}

// Error returns "source:line:col: message", without the parts that are unknown.
func (e *Error) Error() string {
	switch {
	case e.Source == "":
		return e.Msg
	case e.Line == 0:
		return e.Source + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Source, e.Line, e.Column, e.Msg)
}

// errorf makes an Error without a position.
func errorf(format string, args ...any) *Error {
	return &Error{Msg: fmt.Sprintf(format, args...)}
}

// maxShown bounds what an error repeats of a value, in bytes.
const maxShown = 80

// show quotes a value of the input for an error: ASCII, escaped, cut.
func show(s string) string {
	if len(s) <= maxShown {
		return strconv.QuoteToASCII(s)
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "..."
}
