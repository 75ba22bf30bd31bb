// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"strings"
	"testing"
)

func TestQuota(t *testing.T) {
	lower := parse(t, "version: 1\nnetwork: {max_upload: 1GiB, max_upload_per_host: 500, max_connections: 64}\n")
	if got, want := lower.Quota(), (Quota{Upload: 1 << 30, HostUpload: 500, Connections: 64}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	upper := parse(t, "version: 1\nnetwork: {max_upload: \"2M\"}\n")
	if got, want := lower.With(upper).Quota(), (Quota{Upload: 2 << 20, HostUpload: 500, Connections: 64}); got != want {
		t.Errorf("with a later layer: %+v, want %+v", got, want)
	}
	if got := lower.With(Policy{}).Quota(); got != lower.Quota() {
		t.Errorf("with an empty layer: %+v", got)
	}
	if (Policy{}).Quota() != (Quota{}) || lower.Digest() == lower.With(upper).Digest() {
		t.Error("the digest does not tell them apart")
	}
	readsBack(t, lower)
	readsBack(t, upper)
	for text, want := range map[string]string{
		"max_upload: 0": "a limit of 0 would stop everything", "max_upload: -1": "is not a size", "max_upload: 1.5MiB": "is not a size",
		"max_upload: 9999999999TiB": "is not a size", "max_upload_per_host: x": "is not a size", "max_upload: null": "a number is needed",
		"max_connections: 0": "is not a number of connections", "max_connections: 65537": "is not a number of connections",
		"max_connections: 1MiB": "is not a number of connections", "max_connections: [1]": "a number is needed",
	} {
		_, err := Parse("p.yaml", []byte("version: 1\nnetwork: {"+text+"}\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "p.yaml:2:") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestWithQuota(t *testing.T) {
	p := parse(t, "version: 1\nnetwork: {max_upload: 1GiB, max_connections: 64}\n")
	p, err := p.WithQuota(Quota{Upload: 5, HostUpload: 3})
	if want := (Quota{Upload: 5, HostUpload: 3, Connections: 64}); err != nil || p.Quota() != want {
		t.Errorf("%+v, %v, want %+v", p.Quota(), err, want)
	}
	for _, q := range []Quota{{Upload: -1}, {HostUpload: -1}, {Connections: -1}, {Connections: maxConnections + 1}} {
		if _, err := p.WithQuota(q); err == nil {
			t.Errorf("accepted: %+v", q)
		}
	}
}
