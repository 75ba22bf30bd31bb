// SPDX-License-Identifier: Apache-2.0

// Package audit is the record of a run: its events, the recorder that writes them, and the reader that checks them.
package audit
