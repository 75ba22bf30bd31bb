// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Users who are not root.
const (
	oneUser     = 64101
	anotherUser = 64102
)

// A node is of use to the user for whom it was made, in a user namespace of theirs, and to nobody else.
func TestFUSENode(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "owner":
		asOwner(t)
		return
	case "stranger":
		if err := mountNode(t, os.NewFile(3, "node")); !errors.Is(err, unix.EACCES) {
			t.Errorf("the node of another user: %v, want EACCES", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root makes device nodes")
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0)) // which must not open the node
	node, err := FUSENode(oneUser)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || string(after) != string(before) {
		t.Errorf("the node's file system is mounted: %v\n%s", err, after)
	}
	for role, uid := range map[string]int{"owner": oneUser, "stranger": anotherUser} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = []string{childEnv + "=" + role}
		cmd.ExtraFiles = []*os.File{node}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
			Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}

// asOwner uses a node, and finds that nothing else comes of it.
func asOwner(t *testing.T) {
	node := os.NewFile(3, "node")
	if err := mountNode(t, node); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a directory":    unix.Mkdirat(int(node.Fd()), "made", 0o755),
		"another device": unix.Mknodat(int(node.Fd()), "made", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))),
		"another name":   unix.Linkat(int(node.Fd()), nodeName, int(node.Fd()), "made", 0),
		"nothing":        unix.Unlinkat(int(node.Fd()), nodeName, 0),
	} {
		if err == nil {
			t.Errorf("beside the node, %s was made", name)
		}
	}
}

// mountNode mounts a file system by a node, and ends it: nobody serves it.
func mountNode(t *testing.T, node *os.File) error {
	if err := Private(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dev, err := MountFUSE(dir, node)
	if err == nil {
		dev.Close()
		unix.Unmount(dir, unix.MNT_DETACH)
	}
	return err
}
