// SPDX-License-Identifier: Apache-2.0

package netns

import "testing"

func BenchmarkNew(b *testing.B) {
	for _, m := range mechanisms {
		b.Run(m.String(), func(b *testing.B) {
			for b.Loop() {
				n, err := New()
				if err != nil {
					b.Fatal(err)
				}
				if err := n.captureBy([]Mechanism{m}, nil, nil); err != nil {
					b.Fatal(err)
				}
				n.Close()
			}
		})
	}
}
