// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// executable are the bits that let somebody execute a file.
const executable = 0o111

// reasonBefore begins the reason of what was there before the run.
const reasonBefore = "it was there before the run: "

// learn keeps what a file is that the run has not changed. What is read counts only if it is still so afterwards: then it was so
// when the run began.
func (k *walker) learn(f file) {
	if f.made {
		return
	}
	switch kindOf(f.st) {
	case unix.S_IFDIR:
		k.base.dirs[inodeOf(f.st)] = f.full()
	case unix.S_IFLNK:
		k.oldSymlink(f)
	case unix.S_IFREG:
		if k.meaning(f).Kind == "" || !k.affords(f) {
			return
		}
		was, err := knownOf(f.fd, f.name, f.st.Mode)
		after, serr := stat(f.fd, f.name)
		if err == nil && serr == nil && inodeOf(after) == inodeOf(f.st) && !changed(after.Ctime, k.since) {
			k.base.files[f.full()] = was
		}
	}
}

// affords takes what the reading of a file costs out of the bounds.
func (k *walker) affords(f file) bool {
	if f.st.Size > maxContent || k.read+int64(f.st.Size) > k.bounds.Bytes {
		return false
	}
	k.read += int64(f.st.Size)
	return true
}

// judge reports what a file is that the run made or changed.
func (k *walker) judge(f file) {
	kind := kindOf(f.st)
	switch {
	case !f.made && kind == unix.S_IFLNK:
		if !k.warned {
			k.oldSymlink(f)
		}
		k.behind(f)
	case !f.made && kind == unix.S_IFREG && f.in.renamed != "":
		k.renamed(f)
	case !f.made:
	case kind == unix.S_IFDIR:
		if strings.EqualFold(f.name, ".git") && (f.in.fresh || k.isNew(f) || k.isMoved(f)) {
			k.repository(f)
		}
	case kind == unix.S_IFLNK:
		k.symlink(f)
	case kind != unix.S_IFREG:
		k.report(Special, f.full(), special[kind]+": who opens it waits for, or speaks to, what is at its other side")
	case f.st.Mode&unix.S_ISUID != 0, f.st.Mode&unix.S_ISGID != 0 && f.st.Mode&0o010 != 0:
		k.report(Setuid, f.full(), fmt.Sprintf("mode %04o: who runs it has the rights of its owner or group", f.st.Mode&0o7777))
	case strings.EqualFold(f.name, ".git"):
		k.repository(f)
	default:
		k.regular(f)
	}
}

var special = map[uint16]string{
	unix.S_IFIFO: "a FIFO", unix.S_IFSOCK: "a socket", unix.S_IFCHR: "a character device", unix.S_IFBLK: "a block device",
}

func (k *walker) repository(f file) {
	k.report(Repository, f.full(), "git runs the hooks and follows the settings of a repository that was made or moved here")
}

// symlink reports a link that leads out of the place, or has a name that means something.
func (k *walker) symlink(f file) {
	target, out := k.leads(f)
	if out {
		k.report(Symlink, f.full(), "it leads out of the tree, to "+target)
		return
	}
	if strings.EqualFold(f.name, ".git") {
		k.repository(f)
		return
	}
	finding := k.meaning(f)
	if v, ok := k.patterns.leading[strings.ToLower(f.name)]; ok && finding.Kind == "" && f.in.git == 0 {
		finding = Finding{Kind: v.kind, Path: f.full(), Reason: "in what it leads to there can be a file of which holds: " + v.reason}
	}
	if finding.Kind != "" {
		k.found.add(finding)
	}
}

// behind reports a link that was there before, with a name that means something, where the run changed the file that it leads to: that has
// a name of its own, which may mean nothing.
func (k *walker) behind(f file) {
	finding := k.meaning(f)
	if finding.Kind == "" || finding.Kind == Dependencies {
		return
	}
	target, err := readlink(f)
	if err != nil {
		return // oldSymlink says so
	}
	fd, err := follow(f.in.place.fd, f.in.place.path, f.below(), target)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st) == nil && kindOf(st) == unix.S_IFREG && changed(st.Ctime, k.since) {
		finding.Reason += " (" + target + ", to which it leads, was changed)"
		k.found.add(finding)
	}
}

func (k *walker) oldSymlink(f file) {
	if target, out := k.leads(f); out {
		k.found.add(Finding{Kind: Symlink, Path: f.full(), Reason: reasonBefore + "it leads out of the tree, to " + target, Before: true})
	}
}

// leads tells where a symbolic link leads, and whether that is out of the place.
func (k *walker) leads(f file) (target string, out bool) {
	target, err := readlink(f)
	if err != nil {
		k.unread(f.full(), err)
		return "", false
	}
	return target, leaves(f.in.place.fd, f.in.place.path, f.below(), target)
}

func readlink(f file) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(f.fd, f.name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// regular reports a file by its name and its mode, unless it is what it was at the start.
func (k *walker) regular(f file) {
	finding := k.meaning(f)
	if finding.Kind == "" {
		return
	}
	was, ok := k.base.files[f.full()]
	if ok && was.mode == f.st.Mode && k.affords(f) {
		if is, err := knownOf(f.fd, f.name, f.st.Mode); err == nil && is == was {
			return
		}
	}
	if finding.Kind == Build && strings.EqualFold(f.name, "package.json") && k.affords(f) {
		if data, err := content(f.fd, f.name); err == nil && !hasScripts(data) {
			return
		}
	}
	k.found.add(finding)
}

// meaning is what a file is by its name, or else by its mode.
func (k *walker) meaning(f file) Finding {
	v := k.verdict(f)
	switch {
	case v.whole != "":
		return Finding{Kind: v.kind, Path: v.whole, Reason: v.reason, key: v.whole}
	case v.kind != "":
		return Finding{Kind: v.kind, Path: f.full(), Reason: v.reason}
	case kindOf(f.st) == unix.S_IFREG && f.st.Mode&executable != 0 && (f.in.git == 0 || !strings.HasSuffix(f.name, sample)):
		return Finding{Kind: Executable, Path: f.full(), Reason: "it is new or changed, and can be executed"}
	}
	return Finding{}
}

func (k *walker) verdict(f file) verdict {
	lower := strings.ToLower(f.name)
	if f.in.git > 0 {
		below := strings.Split((f.in.lower + "/" + lower)[f.in.git:], "/")
		// A worktree or a submodule that the run made is reported by the .git that leads to it.
		whole := f.in.whole || f.in.fresh && (below[0] == "modules" || below[0] == "worktrees")
		if whole && !slices.Contains(below, "hooks") {
			return verdict{}
		}
		return judgeGit(below)
	}
	if v := judgePython(lower); v.kind != "" {
		return v
	}
	if f.in.verdict.kind != "" {
		return f.in.verdict
	}
	return k.patterns.judge(f.in.lower, lower)
}

// renamed reports a file that is as it was before, by the directory in which it lies: one finding for all in that.
func (k *walker) renamed(f file) {
	v := k.verdict(f)
	if v.kind == "" || v.kind == Dependencies || k.meansTheSame(f) {
		return
	}
	k.found.add(Finding{
		Kind: v.kind, Path: f.in.renamed, key: "renamed " + f.in.renamed,
		Reason: "it was renamed, or names in it were made or removed; what was in it before counts where it is: " + v.reason,
	})
}

// isBare tells whether a directory is a repository by what it has (gitrepository-layout(5)), without being called .git: git takes it
// for one (safe.bareRepository in git-config(1)). Where it has a commondir, objects and refs are there (is_git_directory in git's setup.c).
func isBare(names []string) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	}
	return has("HEAD") && (has("commondir") || has("objects") && has("refs"))
}

// bare reports such a repository where its settings or its hooks changed, or any name in it was made, moved or removed, by which it can have
// become one. What is written for a commit lies deeper.
func (k *walker) bare(d dir, fd int) {
	for _, name := range []string{"", "config", "commondir", "hooks"} {
		var st unix.Statx_t
		err := unix.Statx(fd, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
		if err != nil || !d.fresh && !changed(st.Ctime, k.since) {
			continue
		}
		k.report(Repository, d.full(), "git takes the directory for a repository, and runs what its settings and hooks say")
		return
	}
}

// newLinks reports files that the run changed and that have names elsewhere.
func (k *walker) newLinks() {
	made, _ := k.outside()
	for _, l := range made {
		k.report(Hardlink, l.path, "it was changed, and has other names (hard links) that were not found in the tree: those changed too")
	}
}

// oldLinks warns of files that have names elsewhere, with one finding for each place.
func (k *walker) oldLinks() {
	_, old := k.outside()
	for _, l := range old {
		k.found.add(Finding{
			Kind: Hardlink, Path: l.path, Before: true, key: "old " + l.place,
			Reason: reasonBefore + "it has other names (hard links) that were not found in the tree; what is written to it is written there",
		})
	}
}
