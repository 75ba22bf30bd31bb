// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/seccomp"
)

// The trials, by the words under which their outcomes are known.
const (
	trialUser     = "user namespace"
	trialMounts   = "mounts"
	trialFuse     = "fuse"
	trialNetwork  = "network"
	trialSpaces   = "namespaces"
	trialProc     = "proc"
	trialIdentity = "identity"
	trialBound    = "bound of namespaces"
	trialNested   = "nested"
	trialFilter   = "seccomp"
	trialKillable = "seccomp wait killable"
	trialSync     = "seccomp sync wake up"
	trialLandlock = "landlock" // the value is the ABI
	trialLimits   = "limits"
	trialState    = "state"
)

// trial is the outcome of one attempt. The zero trial was successful.
type trial struct {
	Error string        `json:"error,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"`
	Fix   string        `json:"fix,omitempty"` // of the package that failed
	Value int           `json:"value,omitempty"`
	Text  string        `json:"text,omitempty"` // for people
	Lines []string      `json:"lines,omitempty"`
}

// notTried is the detail of a check that an earlier one made pointless.
const notTried = "not tried, since what it needs is missing"

// needed judges a mechanism without which there is no run.
func (f doctorFacts) needed(layer, mechanism, name string, fix func(doctorFacts, trial) string) (DoctorCheck, trial) {
	c := DoctorCheck{Layer: layer, Mechanism: mechanism, Status: DoctorOK}
	t, tried := f.Trials[name]
	switch {
	case !tried:
		c.Status, c.Detail = DoctorMissing, notTried
	case t.Error != "":
		c.Status, c.Detail, c.Fix = DoctorMissing, t.Error, fix(f, t)
	}
	return c, t
}

func checkKernel(f doctorFacts) DoctorCheck {
	c := DoctorCheck{Layer: "kernel", Mechanism: "Linux " + f.Release, Status: DoctorOK}
	var major, minor int
	if _, err := fmt.Sscanf(f.Release, "%d.%d", &major, &minor); err != nil {
		c.Status, c.Detail = DoctorWeaker, "the version cannot be read; the checks below say what works"
		return c
	}
	const fix = "boot Linux 6.6 or later"
	switch version := major*1000 + minor; {
	case version < 5013: // mount_setattr(2) is in 5.12, Landlock in 5.13
		c.Status, c.Detail, c.Fix = DoctorMissing, "older than 5.13, which brought Landlock", fix
	case version < 5019: // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		c.Status, c.Detail, c.Fix = DoctorWeaker, "older than 5.19: a signal can repeat a system call that is being judged", fix
	case version < 6006: // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
		c.Status, c.Detail, c.Fix = DoctorWeaker, "older than 6.6: calls that change files are judged at half the speed", fix
	}
	return c
}

func checkUserNamespace(f doctorFacts) DoctorCheck {
	c, _ := f.needed("user namespace", "clone(CLONE_NEWUSER) as "+f.who(), trialUser, fixUser)
	return c
}

func checkMounts(f doctorFacts) DoctorCheck {
	c, _ := f.needed("mounts", "mount namespace, bind mounts, mount_setattr", trialMounts, fixPrivilege)
	return c
}

func checkFiles(f doctorFacts) DoctorCheck {
	c, t := f.needed("files", "a FUSE root, which reports what is denied", trialFuse, fixFuse)
	switch {
	case c.Status == DoctorOK:
		c.Detail = t.Text
	case f.WithoutFUSE != "" && t.Error != "": // see Plan.WithoutFUSE
		c.Status, c.Mechanism = DoctorWeaker, "a tmpfs root, at which looks are recorded by what the calls say"
		c.Detail = "FUSE cannot be used, which is faster and has the kernel's word: " + f.WithoutFUSE
	}
	return c
}

func checkNetwork(f doctorFacts) DoctorCheck {
	c, t := f.needed("network", "network namespace, nftables TPROXY", trialNetwork, fixPrivilege)
	if c.Status != DoctorOK {
		return c
	}
	c.Mechanism = "network namespace, " + t.Text
	var detail []string
	if len(t.Lines) > 0 {
		c.Status, c.Fix = DoctorWeaker, t.Fix
		detail = append(detail, "nftables TPROXY cannot be used: "+t.Lines[0])
	}
	if t.Value == 0 {
		detail = append(detail, "without IPv6, which this kernel does not have")
	}
	c.Detail = strings.Join(detail, "; ")
	return c
}

func checkProcesses(f doctorFacts) DoctorCheck {
	c, _ := f.needed("processes", "pid, ipc, uts and cgroup namespaces, a /proc of their own", trialSpaces, fixUser)
	if c.Status == DoctorOK {
		c, _ = f.needed(c.Layer, c.Mechanism, trialProc, fixProc)
	}
	return c
}

func checkIdentity(f doctorFacts) DoctorCheck {
	c, _ := f.needed("identity", "a user namespace in the user namespace, so that the command keeps its uid", trialIdentity, fixUser)
	if c.Status == DoctorOK {
		c, _ = f.needed(c.Layer, c.Mechanism, trialBound, fixBound)
	}
	return c
}

// checkNested is about what a run has only where a policy asks for it.
func checkNested(f doctorFacts) DoctorCheck {
	c, _ := f.needed("nested", "namespaces inside a run, for the sandboxes of browsers, where a policy allows the group nested", trialNested, fixUser)
	if c.Status == DoctorMissing {
		c.Status = DoctorWeaker
	}
	return c
}

func checkSyscalls(f doctorFacts) DoctorCheck {
	c, _ := f.needed("syscalls", "seccomp filter with user notification", trialFilter, fixFilter)
	if c.Status != DoctorOK {
		return c
	}
	var lacks []string
	if f.Trials[trialKillable].Error != "" {
		lacks = append(lacks, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19)")
	}
	if f.Trials[trialSync].Error != "" {
		lacks = append(lacks, "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6)")
	}
	if len(lacks) > 0 {
		c.Status, c.Detail = DoctorWeaker, "without "+strings.Join(lacks, " and ")
	} else if seccomp.IsNewer(f.Release) {
		c.Detail = "calls that came after Linux " + seccomp.Newest() + ", up to which agentjail knows them, are refused"
	}
	return c
}

func checkLandlock(f doctorFacts) DoctorCheck {
	c, t := f.needed("second layer", "Landlock", trialLandlock, fixLandlock)
	if c.Status != DoctorOK {
		return c
	}
	c.Mechanism = fmt.Sprintf("Landlock, ABI %d", t.Value)
	switch { // Documentation/userspace-api/landlock.rst
	case t.Value < 3:
		c.Status, c.Detail = DoctorWeaker, "does not see truncate (ABI 3, Linux 6.2), abstract Unix sockets and signals (ABI 6, Linux 6.12)"
	case t.Value < 6:
		c.Status, c.Detail = DoctorWeaker, "does not see abstract Unix sockets and signals (ABI 6, Linux 6.12); the namespaces do"
	}
	return c
}

func checkLimits(f doctorFacts) DoctorCheck {
	t, tried := f.Trials[trialLimits]
	c := DoctorCheck{Layer: "limits", Mechanism: t.Text, Status: DoctorOK}
	if !tried || t.Error != "" {
		c.Status, c.Mechanism, c.Fix = DoctorWeaker, "none", t.Fix
		c.Detail = "--memory, --pids and --cpus are refused"
		if t.Error != "" {
			c.Detail += ": " + t.Error
		}
	}
	return c
}

func checkState(f doctorFacts) DoctorCheck {
	t, tried := f.Trials[trialState]
	c := DoctorCheck{Layer: "log", Mechanism: strings.TrimSpace("state directory " + t.Text), Status: DoctorOK}
	if !tried || t.Error != "" {
		c.Status, c.Detail, c.Fix = DoctorMissing, t.Error, "export XDG_STATE_HOME=DIR   # one that you may write to"
		if t.Text == "" {
			c.Fix = "export HOME=DIR   # one that is there"
		}
	}
	return c
}

// refusedBy tells whether an outer layer said no, as against something that is not there.
func (t trial) refusedBy() bool {
	return t.Errno == unix.EPERM || t.Errno == unix.EACCES
}
