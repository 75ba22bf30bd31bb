// SPDX-License-Identifier: Apache-2.0

package audit

import "strings"

// Flag is a flag with its value as one types it into a shell, for Event.Fix. It is empty where the value is too long for that, or has
// something that does not show or that quotes do not keep, as csh(1) does not keep a !: it can be the command's own choice.
func Flag(name, value string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,-"
	text := name + " " + value
	if strings.Trim(value, plain) != "" {
		text = name + " '" + value + "'"
	}
	if value == "" || len(text) > MaxText || strings.ContainsAny(value, "'!") || Printable(value) != value {
		return ""
	}
	return text
}

// withFix adds to an event about a denial what would allow it. What is a credential, or noise, is not to be allowed for its event's sake.
func (o Options) withFix(e Event) Event {
	switch {
	case e.Decision != Deny || e.Severity != "":
		e.Fix = ""
	case e.Fix == "" && o.Fix != nil:
		e.Fix = cut(o.Fix(e), MaxText)
	}
	return e
}
