// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"cmp"
	"strconv"
)

// Quota bounds what a run may do with the network that it is granted. Zero is
// no bound.
type Quota struct {
	Upload      int64 `json:"upload"`      // bytes that the run may send, to all hosts together
	HostUpload  int64 `json:"host_upload"` // bytes that it may send to one host
	Connections int   `json:"connections"` // that may be open at once
}

// maxConnections is more than a run gets without a quota.
const maxConnections = 1 << 16

// with returns the quota with the bounds that over sets.
func (q Quota) with(over Quota) Quota {
	return Quota{
		Upload:      cmp.Or(over.Upload, q.Upload),
		HostUpload:  cmp.Or(over.HostUpload, q.HostUpload),
		Connections: cmp.Or(over.Connections, q.Connections),
	}
}

// fields reads the keys of network that are quotas.
func (q *Quota) fields(d *decoder) []field {
	size := func(out *int64) func(string) error {
		return func(s string) (err error) { *out, err = ParseUpload(s); return err }
	}
	return []field{
		d.bound("max_upload", size(&q.Upload)),
		d.bound("max_upload_per_host", size(&q.HostUpload)),
		d.bound("max_connections", func(s string) (err error) { q.Connections, err = ParseConnections(s); return err }),
	}
}

// ParseUpload reads a number of bytes that may be sent, in the form of a size. The
// error is an *Error without a position.
func ParseUpload(s string) (int64, error) { return parseBytes(s) }

// ParseConnections reads a number of connections, 1 to 65536.
func ParseConnections(s string) (int, error) {
	n, ok := parseDigits(s)
	if !ok || n == 0 || n > maxConnections {
		return 0, errorf("%s is not a number of connections: write a whole number from 1 to %d", show(s), maxConnections)
	}
	return int(n), nil
}

// check refuses a quota that no policy could have.
func (q Quota) check() error {
	if q.Upload < 0 || q.HostUpload < 0 || q.Connections < 0 || q.Connections > maxConnections {
		return errorf("a quota is out of range")
	}
	return nil
}

// quota writes what is bounded.
func (w *writer) quota(q Quota) {
	for _, bound := range []struct {
		key, value string
		set        bool
	}{
		{"max_upload", FormatSize(q.Upload), q.Upload != 0},
		{"max_upload_per_host", FormatSize(q.HostUpload), q.HostUpload != 0},
		{"max_connections", strconv.Itoa(q.Connections), q.Connections != 0},
	} {
		if bound.set {
			w.line("  %s: %s", bound.key, bound.value)
		}
	}
}
