// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// grpc calls a method as gRPC's protocol over HTTP/2 does (grpc.io, PROTOCOL-HTTP2): messages with their length before them, both
// ways in one request, each sent after the answer to the one before; then the status, which is a trailer.
func grpc(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: probe grpc URL MESSAGE [MESSAGE]")
	}
	in, out := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, args[0], in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		return fmt.Errorf("%s %s", res.Proto, res.Status)
	}
	for _, message := range args[1:] {
		prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		if _, err := out.Write(append(prefix, message...)); err != nil {
			return err
		}
		if _, err := io.ReadFull(res.Body, prefix); err != nil {
			return err
		}
		answer := make([]byte, min(binary.BigEndian.Uint32(prefix[1:]), 1<<20))
		if _, err := io.ReadFull(res.Body, answer); err != nil {
			return err
		}
		fmt.Printf("%s\n", answer)
	}
	out.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	fmt.Printf("%s, status %s, %s\n", res.Proto, res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message"))
	return nil
}
