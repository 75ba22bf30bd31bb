// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// Arg is the word that starts the program as the half inside, with the Facts after it. By hand, outside of a jail, it tells what leaks
// there.
const Arg = "agentjail-selftest"

// Facts are what the inside is told of the host.
type Facts struct {
	Namespaces map[string]string `json:"namespaces,omitempty"` // the host's, as /proc/self/ns names them
	Token      string            `json:"token"`                // what the baits say
	Dir        string            `json:"dir"`                  // of the files of the bait
	TCP4       int               `json:"tcp4,omitempty"`       // ports on the host's loopback; 0: none
	TCP6       int               `json:"tcp6,omitempty"`
	Abstract   string            `json:"abstract"` // name of a socket
	Score      int               `json:"score"`    // of the launcher, see oomScore
}

// Main is the main function of the half inside. It returns the exit code.
func Main(facts string, w io.Writer) int {
	var f Facts
	if err := json.Unmarshal([]byte(facts), &f); err != nil {
		fmt.Fprintln(os.Stderr, "agentjail: this word is for agentjail's own use:", err)
		return 125
	}
	encoder := json.NewEncoder(w)
	for _, t := range tries {
		var v Verdict
		var why string
		alone(func() { v, why = t.try(f) }) // one that leaks may have changed its namespaces or ids
		if err := encoder.Encode(line{t.id, v, strings.ToValidUTF8(why[:min(len(why), maxWhy)], "?")}); err != nil {
			return 1
		}
	}
	return 0
}

// alone calls f on a thread of its own, which ends with it.
func alone(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}
