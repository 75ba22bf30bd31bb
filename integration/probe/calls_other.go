// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package main

import "errors"

var errNoOtherABI = errors.New("this architecture has no such ABI")

func x32([]string) error    { return errNoOtherABI }
func int80([]string) error  { return errNoOtherABI }
func matrix([]string) error { return errNoOtherABI }
