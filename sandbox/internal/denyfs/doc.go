// SPDX-License-Identifier: Apache-2.0

// Package denyfs is the root of the jail: a FUSE file system whose directories are the ancestors of what a run was
// granted, and which answers "absent" for everything else and reports that it was asked.
//
// # Who does what
//
// The supervisor opens /dev/fuse in its own user namespace, mounts it, binds the grants over the empty directories
// and files that denyfs offers for them, and hands the device over. The launcher serves the device with [FS.Serve]
// from outside, and never walks the mount itself, so that no answer can wait for itself. The supervisor must close
// its copy of the device once it is handed over: the connection ends when the last copy is closed.
//
//	<mount>/root      the root of the jail
//	<mount>/hidden/N  a file or directory to bind over Config.Hidden[N], a place inside a grant
//
// Granted places cost nothing: they are native mounts, and the directories on the way to them are cached by the
// kernel for an hour. Only what is denied, and the home, ever comes here.
//
// # What it answers
//
//   - A name that the tree has: an ancestor of a grant (listing it shows granted names only), the place of a grant, a
//     symbolic link of the tree.
//   - A name that exists on the host but was not granted: ENOENT and an event. A directory can be walked through, so
//     that the kernel goes on to ask for the file itself and the log names that; listing or entering it is EACCES and
//     an event.
//   - A name that the host does not have: ENOENT, and no event.
//   - Making, changing or removing anything: EACCES and an event. Nothing is ever swallowed.
//   - In the home: the names of the private home are real, and new ones may be made there, except names that the
//     host's home already has and the start-up files of [Protected].
//
// The caller of a system call is blocked while denyfs answers it, so /proc/TID/syscall tells which call it is, and
// the kernel itself vouches for path and thread: no symbolic link, "..", descriptor or second thread changes what is
// reported. An attempt is one event, also where the kernel asks twice for it (a lookup, then a create).
//
// # Limits
//
//   - That a directory of a guessed name exists on the host can be told from inside; its contents cannot.
//   - inotify_add_watch asks for nothing but the lookup, so a watch on a directory is reported and not refused. It
//     is set on a stand-in on which nothing of the host ever happens.
//   - openat2 has its flags behind a pointer: its action is "open" unless it creates.
//   - Connecting to a hidden socket (see Config.Hidden) is refused by the kernel without a question to denyfs, and
//     so is moving or removing a mount point (EBUSY), linking across mounts (EXDEV) or moving a file onto a
//     directory (EISDIR).
//   - Of a mkdir of a directory and a second one, of the same arguments in number, for a name that begins in it by
//     /proc/self/fd, the second alone is reported. Where it begins there by its directory, both are, and so are the two
//     directories of a single call that goes the long way round to where it begins.
//   - An access of a thread whose system call cannot be read has the action "other".
//   - Locks taken on files of the home hold inside one run only, and the home keeps no extended attributes.
//   - A private home on a file system that hangs stalls what is looked up in it.
//   - Needs Linux 5.7: until then reading /proc/TID/syscall waited for an exec in progress, which waits for denyfs.
package denyfs
