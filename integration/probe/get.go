// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net/http"
	"os"
)

func get(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe get URL")
	}
	res, err := http.Get(args[0])
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(os.Stdout, res.Body)
	return err
}
