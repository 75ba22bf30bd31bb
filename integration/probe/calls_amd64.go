// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func init() {
	for name, nr := range map[string]uintptr{
		"chmod": unix.SYS_CHMOD, "ioperm": unix.SYS_IOPERM, "iopl": unix.SYS_IOPL, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD,
		"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "mknod": unix.SYS_MKNOD, "modify_ldt": unix.SYS_MODIFY_LDT,
		"nfsservctl": unix.SYS_NFSSERVCTL, "uselib": unix.SYS_USELIB, "ustat": unix.SYS_USTAT, "sysfs": unix.SYS_SYSFS,
		"creat": unix.SYS_CREAT, "mkdir": unix.SYS_MKDIR, "open": unix.SYS_OPEN,
	} {
		numbers[name] = nr
	}
}

// x32Bit marks a call of the x32 ABI (__X32_SYSCALL_BIT, asm/unistd.h); 512 to 547 are its own numbers.
const (
	x32Bit = 0x40000000
	x32Max = 548
)

// harmful are the numbers that must not be entered with arguments that mean nothing: they end, double or stop the caller, or, as
// uretprobe does where nothing is probed, have the kernel end it.
var harmful = map[uintptr]bool{
	unix.SYS_EXIT: true, unix.SYS_EXIT_GROUP: true, unix.SYS_FORK: true, unix.SYS_VFORK: true, unix.SYS_CLONE: true,
	unix.SYS_PAUSE: true, unix.SYS_RT_SIGRETURN: true, unix.SYS_RT_SIGSUSPEND: true, unix.SYS_MUNMAP: true,
	unix.SYS_KILL: true, unix.SYS_REBOOT: true, unix.SYS_BRK: true, unix.SYS_ARCH_PRCTL: true,
	unix.SYS_SYNC: true, unix.SYS_URETPROBE: true, sysUprobe: true,
}

const sysUprobe = 336 // Linux 6.18

// x32 enters every number with the x32 bit. A number that is open answers anything but ENOSYS and EPERM.
func x32([]string) error {
	open := 0
	for nr := range uintptr(x32Max) {
		if harmful[nr] {
			continue
		}
		bad := ^uintptr(0)
		_, _, errno := unix.RawSyscall6(nr|x32Bit, bad, bad, bad, bad, bad, bad)
		if errno != unix.ENOSYS && errno != unix.EPERM {
			fmt.Printf("open %d %s\n", nr, errnoName(errno))
			open++
		}
	}
	fmt.Printf("%d open\n", open)
	return nil
}

// lastNumber is some above those that any kernel has.
const lastNumber = 600

// matrix enters every number of the native ABI with arguments that cannot succeed, and prints what became of each.
func matrix([]string) error {
	for nr := range uintptr(lastNumber) {
		if harmful[nr] {
			continue
		}
		bad := ^uintptr(0)
		_, _, errno := unix.RawSyscall6(nr, bad, bad, bad, bad, bad, bad)
		fmt.Printf("%d %s\n", nr, errnoName(errno))
	}
	return nil
}

// getpid80 is getpid of the i386 ABI, through the gate that 64-bit code can use too.
func getpid80() int64

func int80([]string) error {
	fmt.Printf("entered %d\n", getpid80())
	return nil
}
