// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package denyfs

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_FSTATAT

// legacyAction knows the calls that only x86 has: there are none.
func legacyAction(Call) (Action, bool) { return "", false }

func legacyOpenFlags(Call) uint64 { return 0 }
