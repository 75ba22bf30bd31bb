// SPDX-License-Identifier: Apache-2.0

// Package workspace tells what a run left in the places that it could write which a program of the host would later run or follow:
// repositories, build files, settings, executables, links that lead out, and the like.
//
// What changed is told by the inode's change time, which no system call sets: it is not earlier than the time of the clock before
// the command started. Nothing has to be known of the tree before the command starts. A walk beside the command then learns what
// it finds unchanged: by the time again, that is what was there before the run. It warns of links out of the tree, and keeps hashes,
// so that a file which was changed and changed back is not reported.
//
// It only looks: no program runs, no file but a regular one is opened, no symbolic link is followed, no other mount is entered. The
// names are the command's: who prints them escapes them. All is bounded; what was left out is a finding too.
//
// Limits: what the host changed meanwhile is reported as well. Not all file systems keep the promise about change times, see Doubts.
// A directory that was moved with all in it, unchanged, is known as moved only where the walk beside the command had seen it. Otherwise what
// is in it is reported where it means something by the directory's name, and also where only a name in that was made or removed.
package workspace
