// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// victim is the command inside, for what a shell cannot do.
func victim(args []string) {
	switch args[0] {
	case "call": // a system call that the filter asks about
		_, _, errno := unix.Syscall(unix.SYS_UMOUNT2, 0, 0, 0)
		fmt.Println(unix.ErrnoName(errno))
	default:
		os.Exit(99)
	}
}
