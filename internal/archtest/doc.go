// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the rules of the repository that a compiler does not know, as tests: which package may import which,
// that every package says what it is for, that every file names its licence, that no function is too long to be read.
//
// Each rule stands with its reason. A rule that is in the way is changed here, with a new reason, and not worked around.
package archtest
