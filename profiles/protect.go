// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// RepositoryName is the entry of Files.Protect that stands for what git runs or trusts in a repository
// (gitrepository-layout(5), githooks(5), git-config(1), gitattributes(5), gitsubmodules(7)): its hooks and settings, and where it
// looks for those; and those of lazygit, which has them there. What git itself writes for a commit, a branch or a fetch is not among it.
const RepositoryName = ".git"

// RepositoryFiles are those of them that a repository has itself, below its git directory.
var RepositoryFiles = []string{"hooks", "config", "config.worktree", "commondir", "gitdir", "info/attributes", "objects/info/alternates", "lazygit.yml"}

// unpacked are directories that package managers fill and empty as a whole, with whatever the packages brought along.
var unpacked = []string{"node_modules", "site-packages", "vendor"}

// Hold says how a path is protected.
type Hold int

const (
	HoldWhole Hold = iota // it can neither be made, changed nor moved
	HoldName              // it leads to what is protected: it can be made as a directory and removed, but not moved nor replaced by a link
	HoldDir               // a directory can neither be moved nor removed
)

// Guard is one reason why a path is protected.
type Guard struct {
	Hold Hold
	// Since is the file whose age counts: what the run has made itself, or in a directory that it has made, is its own work.
	Since string
}

// Protection finds what is protected in a place that may be written. Names are compared as fold has them.
type Protection struct {
	named        map[string][][]string // names as fold has them, by the first of each
	matched      []matched             // those whose first has a * or ?
	git          bool
	repositories []string
	paths        []string // as fold has them
}

// matched is an entry whose first name has a * or ?, with what comes behind that: most names end otherwise.
type matched struct {
	names []string
	end   string
}

func (m matched) begins(name string) bool {
	return strings.HasSuffix(name, m.end) && matches(m.names[0], name)
}

// Protection is that of the list of protected names. A git directory with another name than .git has to be said, and so have paths
// that are protected of any age.
func (f Files) Protection(repositories, paths []string) Protection {
	p := Protection{named: map[string][][]string{}}
	for _, path := range paths {
		p.paths = append(p.paths, fold(path))
	}
	for _, name := range f.Protect {
		names := strings.Split(fold(name), "/")
		switch {
		case name == RepositoryName:
			p.git, p.repositories = true, repositories
		case strings.ContainsAny(names[0], wildcards):
			p.matched = append(p.matched, matched{names, names[0][strings.LastIndexAny(names[0], wildcards)+1:]})
		default:
			p.named[names[0]] = append(p.named[names[0]], names)
		}
	}
	return p
}

// Find gives the reasons for which a path is protected that lies in a place which may be written: none if it is not. Both are
// absolute and clean. What lies above the place, or is the place itself, was granted.
func (p Protection) Find(place, at string) []Guard {
	if !p.concerns(at) {
		return nil
	}
	f := finder{
		names: strings.Split(at[1:], "/"), folded: strings.Split(fold(at[1:]), "/"), granted: strings.Count(place, "/"),
		tried: map[int]bool{},
	}
	for i, name := range f.folded {
		if i >= f.granted && (name == RepositoryName || slices.Contains(unpacked, name)) {
			break
		}
		for _, pattern := range p.begun(name) {
			f.match(pattern, i)
		}
		for _, m := range p.matched {
			if m.begins(name) {
				f.match(m.names, i)
			}
		}
	}
	for i, name := range f.folded {
		if p.git && isName(RepositoryName, name) {
			f.repository(i + 1)
		}
	}
	for _, dir := range p.repositories {
		if within(dir, at) {
			f.repository(strings.Count(dir, "/"))
		}
	}
	for _, kept := range p.paths {
		switch folded := fold(at); {
		case within(kept, folded):
			f.hold(HoldWhole, len(f.names), 0)
		case within(folded, kept):
			f.hold(HoldName, len(f.names), 0)
		}
	}
	return f.guards
}

// concerns tells whether a path has a name that begins something protected. It is asked at every write, and most have none.
func (p Protection) concerns(at string) bool {
	for name := range strings.SplitSeq(at[1:], "/") {
		name = fold(name)
		if p.git && isName(RepositoryName, name) || len(p.begun(name)) > 0 ||
			slices.ContainsFunc(p.matched, func(m matched) bool { return m.begins(name) }) {
			return true
		}
	}
	folded := fold(at)
	return slices.ContainsFunc(p.repositories, func(dir string) bool { return within(dir, at) }) ||
		slices.ContainsFunc(p.paths, func(kept string) bool { return within(kept, folded) || within(folded, kept) })
}

// begun are the entries whose first name is this one, or has it for a short name.
func (p Protection) begun(name string) [][]string {
	if !strings.Contains(name, "~") {
		return p.named[name]
	}
	var all [][]string
	for first, entries := range p.named {
		if isName(first, name) {
			all = append(all, entries...)
		}
	}
	return all
}

// isName tells whether a name is one that is protected, by itself or for a short name of it.
func isName(protected, name string) bool { return name == protected || isShort(protected, name) }

// isShort tells whether FAT or NTFS can have a name for the short one (8.3) of another, by which the same file is found: .git has GIT~1,
// config.worktree CONFIG~1.WOR, and the fifth of a kind two letters and four hexadecimal digits before the ~ (vfat_create_shortname in
// fs/fat/namei_vfat.c). No other file system has any, and nobody gives such names.
func isShort(long, name string) bool {
	base, ext, _ := strings.Cut(name, ".")
	stem, number, ok := strings.Cut(base, "~")
	if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
		return false
	}
	long = strings.TrimLeft(long, ".")
	end := ""
	if i := strings.LastIndexByte(long, '.'); i >= 0 {
		long, end = long[:i], long[i+1:]
	}
	long = noneInShort.Replace(long)
	if ext != end[:min(len(end), 3)] {
		return false
	}
	return strings.HasPrefix(long, stem) && len(stem) == min(len(long), 7-len(number)) ||
		len(stem) == 6 && strings.HasPrefix(long, stem[:2]) && strings.Trim(stem[2:], "0123456789abcdef") == ""
}

// noneInShort leaves out what no short name has before its only dot.
var noneInShort = strings.NewReplacer(".", "", " ", "")

// wildcards are what makes a pattern of a name (path.Match).
const wildcards = `*?[]\`

// matches is path.Match of a pattern that is one, and isName of one without wildcards.
func matches(pattern, name string) bool {
	if !strings.ContainsAny(pattern, wildcards) {
		return isName(pattern, name)
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// fold is a path with the differences taken out that some file system ignores in a name: case (ext4 and f2fs with casefold, FAT,
// NTFS), also where it changes the number of characters, characters that are not seen (HFS+, and Unicode's folding), dots and blanks at
// the end (FAT, NTFS).
func fold(path string) string {
	plain, ascii := true, true
	for i := range len(path) {
		c := path[i]
		ascii = ascii && c < utf8.RuneSelf
		if c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' || (c == '.' || c == ' ') && (i+1 == len(path) || path[i+1] == '/') {
			plain = false
		}
	}
	switch {
	case plain:
		return path
	case ascii:
		path = strings.ToLower(path)
	default:
		path = fullFolding.Replace(strings.Map(foldRune, path))
	}
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = strings.TrimRight(name, ". ")
	}
	return strings.Join(names, "/")
}

// fullFolding are the characters that Unicode's full folding makes several ASCII letters of (status F of CaseFolding.txt), as ext4 and f2fs do
// (fs/unicode/README.utf8data): what a name of ASCII letters can be spelt with.
var fullFolding = strings.NewReplacer("\u00df", "ss", "\ufb00", "ff", "\ufb01", "fi", "\ufb02", "fl", "\ufb03", "ffi", "\ufb04", "ffl", "\ufb05", "st", "\ufb06", "st")

// foldRune is the smallest of the characters that differ in case alone; -1 for one that is not seen (Default_Ignorable_Code_Point of
// Unicode, which those file systems leave out).
func foldRune(r rune) rune {
	if unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || r == utf8.RuneError {
		return -1
	}
	least := min(unicode.ToLower(r), unicode.ToLower(unicode.ToUpper(r))) // of a dotless i an i, as NTFS and exFAT compare capitals
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, unicode.ToLower(next))
	}
	return least
}

// within tells whether a path is a directory or below it.
func within(dir, at string) bool {
	rest, ok := strings.CutPrefix(at, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// finder is one question to a Protection.
type finder struct {
	names, folded []string
	granted       int          // as many of the names are above what is protected
	tried         map[int]bool // how many names were taken for those of a submodule's git directory
	guards        []Guard
}

// hold adds a reason that lies in the first n names, and counts from the age of the first m, or of what lies below them: the root,
// which is older than any run, of none.
func (f *finder) hold(hold Hold, n, m int, below ...string) {
	if n > f.granted {
		f.guards = append(f.guards, Guard{hold, "/" + strings.Join(slices.Concat(f.names[:m], below), "/")})
	}
}

// match compares a pattern with the names from the i-th on.
func (f *finder) match(pattern []string, i int) {
	rest := f.folded[i:]
	n := min(len(pattern), len(rest))
	for k, want := range pattern[:n] {
		if !matches(want, rest[k]) {
			return
		}
	}
	hold := HoldWhole
	if n < len(pattern) {
		hold = HoldName
	}
	f.hold(hold, i+n, i)
}

// repository judges the path by what it is in the git directory of the first n names. The directory itself is as old as it is, and
// so is what lies in it; where it is one only if something lies below it, as old as that.
func (f *finder) repository(n int, below ...string) {
	rest := f.folded[n:]
	if len(rest) == 0 {
		f.hold(HoldWhole, n, n)
		return
	}
	switch {
	case rest[0] == "modules":
		f.submodule(n, below...)
		return
	case isName("worktrees", rest[0]):
		switch {
		case len(rest) == 1:
			f.hold(HoldName, n+1, n)
		case len(rest) == 2:
			f.hold(HoldDir, n+2, n+2)
		default:
			f.repository(n + 2)
		}
		return
	}
	for _, file := range RepositoryFiles {
		want := strings.Split(file, "/")
		k := min(len(want), len(rest))
		switch {
		case !slices.EqualFunc(want[:k], rest[:k], isName):
		case k < len(want):
			f.hold(HoldName, n+k, n, below...)
		default:
			f.hold(HoldWhole, n+k, n, below...)
		}
	}
}

// submodule judges a path in the place where a repository keeps those of its submodules. Their names may have slashes, and parts that
// are names of a git directory as well, so that each part is tried: one is of a git directory if there are objects beside it.
func (f *finder) submodule(n int, below ...string) {
	rest := f.folded[n:]
	for k := 2; k < len(rest); k++ {
		if isRepositoryName(rest[k]) && !f.tried[n+k] {
			f.tried[n+k] = true // a path can have hundreds of such names
			f.repository(n+k, objects)
		}
	}
	switch len(rest) {
	case 1:
		f.hold(HoldName, n+1, n, below...)
		return
	case 2: // where git would find a repository for a submodule that has none yet
		f.hold(HoldWhole, n+2, n, below...)
	}
	f.hold(HoldDir, n+len(rest), n+len(rest), objects) // it is a git directory
	if rest[len(rest)-1] == objects {
		f.hold(HoldDir, n+len(rest), n+len(rest))
	}
}

// objects is where a git directory has what it keeps. It is made with it, and never anew.
const objects = "objects"

func isRepositoryName(name string) bool {
	return name == "modules" || isName("worktrees", name) || slices.ContainsFunc(RepositoryFiles, func(file string) bool {
		first, _, _ := strings.Cut(file, "/")
		return isName(first, name)
	})
}

// checkProtect accepts a name, or some with slashes between, that is protected wherever it is found.
func checkProtect(p string) error {
	switch {
	case p == "":
		return errorf("a name is empty")
	case len(p) > maxPath:
		return errorf("name %s is longer than %d bytes", show(p), maxPath)
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return errorf("name %s has control characters or is not UTF-8", show(p))
	case p[0] == '/' || p[0] == '~':
		return errorf("name %s is a path: what is protected has a name, such as .vscode or .git/hooks, wherever it lies; "+
			"grant a path with read, and it cannot be written", show(p))
	case path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return errorf("name %s: write one without . or .., or slashes at its end", show(p))
	case strings.HasPrefix(fold(p)+"/", RepositoryName+"/") && p != RepositoryName:
		return errorf("name %s: %s protects what git runs or trusts of a repository, whatever it is called: write that", show(p), RepositoryName)
	}
	for name := range strings.SplitSeq(p, "/") {
		if _, err := path.Match(name, ""); err != nil || strings.Trim(name, "*?") == "" {
			return errorf("name %s: * stands for a part of a name, as in *.code-workspace", show(p))
		}
	}
	return nil
}
