// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/agentjail/agentjail/seccomp"
)

// limitNamespaces has the kernel refuse namespaces to the run (ENOSPC), whatever became of its filter: all of them, and where the
// policy allows some, all but so many of these. A limit of the supervisor's user namespace counts what is made in those below it,
// too (namespaces(7), "The /proc/sys/user directory"), and what the run is made of is not taken away by a lower one.
func limitNamespaces(allowed []string) error {
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		most := 0
		if slices.Contains(allowed, kind) {
			most = seccomp.MaxNamespaces
		}
		err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", strconv.AppendInt(nil, int64(most), 10), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without that kind
			return setupError("namespaces", fmt.Errorf("the limit of %s namespaces: %w", kind, err))
		}
	}
	return nil
}
