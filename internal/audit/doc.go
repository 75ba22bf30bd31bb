// SPDX-License-Identifier: Apache-2.0

// Package audit is the record of a run: its events, the recorder that writes them, and the reader that checks them.
//
// # Writing
//
// A [Recorder] writes one file of JSON lines, and copies of it where asked. Only the process that holds the Recorder writes
// there; whatever the confined command says (a path, an argument, a name) is quoted in a field and can neither end a line
// nor pass for another. [Recorder.Start] writes run.start and returns when the kernel has it, [Recorder.Close] writes
// run.end. Between them [Recorder.Emit] takes events from any goroutine and never waits for the disk: a denial that was
// emitted before it was answered survives the command that it is about, though not a launcher that is killed in the
// microseconds before its writer has come to it. Lines reach the kernel at once; the disk is asked to keep them (fsync(2))
// every second, so that a power cut may cost the last one, and shows as an incomplete log.
//
// # What a flood does
//
// A command can be denied 50,000 times a second. The first [Verbatim] events with the same class, action, decision, target,
// errno and exe are written as they are; more of them are counted, and the count is written every second. Each class,
// credentials of any class, and the ends of connections have a share of their own of lines per second and of distinct events
// to remember, so that noise of one kind cannot push out another. What connections exchanged is added up. Where a share is
// used up, events are counted under events.overflow of their class: their number is exact, their targets are lost. Memory is bounded at about 20 MiB, the log at about 256 KiB per second and
// class. What could not be recorded at all is counted in events.dropped, by class.
//
// # Reading
//
// [Verify] tells a log that is whole from one that was changed and from one that ends too early; [Scan] returns its events.
// Both take any input: a line is at most [MaxLine] bytes, and must be exactly what the recorder would have written.
//
// The chain of hashes makes changes evident only against something that whoever changed the log could not change too: who
// can write the file can compute a new chain. That something is a signature: run.end has one, and a log.head each minute, by a
// [Key] that is made once for each user. Who can read the key can sign anything; against them there is only the hash of the
// last line, [Summary].Head, which is printed at the end of a run.
//
// # Text
//
// Lines are printable ASCII. What JSON can say is in its own escapes (\u001b, \u202e). A byte that is not UTF-8 is written
// as \xNN (as text, so that it is \\xNN in JSON), and a backslash that stands before such a form is doubled; every other
// backslash is itself. [Event]'s JSON methods do this in both directions, so that an event keeps its bytes on any path.
// [Printable] is the form for people: it escapes what could move the cursor, hide or reorder text.
//
// Fields have a length at most ([MaxTarget] and so on); a field that was cut is named in truncated. [Options].Redact takes secrets
// out of command lines before a line is hashed; who emits an event leaves them out of its other fields.
package audit
