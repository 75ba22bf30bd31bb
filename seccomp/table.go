// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

//go:generate go run generate.go

// number is one system call of an architecture.
type number struct {
	Nr    uint32
	Name  string
	Since string // the kernel that introduced the name, as syscalls(2) counts; empty where none implements it
}

// table is sorted by number.
type table []number

var tables = map[uint32]table{ArchAMD64: amd64Numbers, ArchARM64: arm64Numbers}

func (t table) name(nr uint32) (string, bool) {
	i, ok := slices.BinarySearchFunc(t, nr, func(n number, nr uint32) int { return int(n.Nr) - int(nr) })
	if !ok {
		return "", false
	}
	return t[i].Name, true
}

// Name is the name of a call of this program's architecture; its number in decimal where it has none here.
func Name(nr uint32) string {
	if name, ok := tables[NativeArch()].name(nr); ok {
		return name
	}
	return fmt.Sprintf("syscall_%d", nr)
}

// Newest is the kernel of the newest call that the table knows. What a later one brings is refused as a number without a name.
func Newest() string {
	return slices.MaxFunc(tables[NativeArch()], func(a, b number) int { return compareVersions(a.Since, b.Since) }).Since
}

// IsNewer tells whether a kernel, by its release (uname(2)), came after all that the table knows.
func IsNewer(release string) bool { return compareVersions(release, Newest()) > 0 }

func compareVersions(a, b string) int { return cmp.Compare(version(a), version(b)) }

// version orders kernels by the first two numbers of their names. What has none comes before all.
func version(name string) int {
	name, _, _ = strings.Cut(name, "-")
	first, rest, _ := strings.Cut(name, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ := strconv.Atoi(first)
	minor, _ := strconv.Atoi(second)
	return major*1000 + minor
}

// everyKernel is the oldest that a run works on: it has Landlock.
const everyKernel = "5.13"

// byKernel lists the calls that came later, by the kernel that introduced them.
func byKernel(t table) string {
	names := map[string][]string{}
	for _, n := range t {
		if compareVersions(n.Since, everyKernel) > 0 {
			names[n.Since] = append(names[n.Since], n.Name)
		}
	}
	var all []string
	for _, since := range slices.SortedFunc(maps.Keys(names), compareVersions) {
		all = append(all, strings.Join(names[since], " ")+" ("+since+")")
	}
	return strings.Join(all, ", ")
}
