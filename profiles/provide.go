// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// maxProvided bounds the text of a file that a policy provides, in bytes.
const maxProvided = 64 << 10

// provided returns the paths of the files that a layer provides, sorted.
func (f Files) provided() []string { return slices.Sorted(maps.Keys(f.Provide)) }

// provide adds a file.
func (f *Files) provide(path, text string) {
	if f.Provide == nil {
		f.Provide = map[string]string{}
	}
	f.Provide[path] = text
}

// readProvided reads filesystem.provide.
func (d *decoder) readProvided(n ast.Node, f *Files) error {
	return d.pairs(n, "provide", func(key, value ast.Node) error {
		path, err := d.text(key)
		if err != nil {
			return err
		}
		if err := checkProvided(path); err != nil {
			return d.fail(key, err)
		}
		text, err := d.text(value)
		if err != nil {
			return err
		}
		if len(text) > maxProvided || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			return d.fail(value, errorf("the text of %s has a NUL byte, is not UTF-8 or longer than %d bytes", show(path), maxProvided))
		}
		f.provide(path, text)
		d.note("provide", path, key)
		return nil
	})
}

// checkProvided accepts the path of a file that a policy provides: below /etc, where programs look for the settings of a machine. The
// caller's own files are no place for it: what is granted of them is theirs.
func checkProvided(p string) error {
	if err := checkGrant(p); err != nil {
		return err
	}
	if !strings.HasPrefix(p, "/etc/") {
		return errorf("path %s: only files below /etc can be provided", show(p))
	}
	return nil
}
