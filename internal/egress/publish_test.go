// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentjail/agentjail/internal/audit"
)

// freePort is a port of loopback that nobody listens at.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addrPort(l.Addr()).Port()
}

// publishing serves a gateway that publishes a port, behind which is what inside connects to.
func publishing(t *testing.T, port uint16, inside func(context.Context, uint16) (net.Conn, error)) (*Gateway, *memory, error) {
	t.Helper()
	sink := &memory{make(chan audit.Event, 10)}
	g, err := New(Config{Publish: []uint16{port}, Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g, sink, g.Serve(Net{Inside: inside})
}

type memory struct{ events chan audit.Event }

func (m *memory) Emit(e audit.Event) { m.events <- e }

// Containment checks: H13.
func TestPublish(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c) // until the client has ended its direction
			c.Close()
		}
	}()
	port := freePort(t)
	asked := make(chan uint16, 1)
	g, sink, err := publishing(t, port, func(ctx context.Context, port uint16) (net.Conn, error) {
		asked <- port
		return net.Dial("tcp", server.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", netip.AddrPortFrom(loopback4, port).String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "hello")
	closeWrite(conn)
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if got := <-asked; got != port {
		t.Errorf("port %d inside", got)
	}
	e := <-sink.events
	if e.Action != actionPublish || e.Decision != audit.Allow || e.Target != "127.0.0.1:"+strconv.Itoa(int(port)) {
		t.Errorf("%+v", e)
	}
	end := <-sink.events
	if end.Action != actionClose || end.Target != e.Target || end.Rule != e.Rule || end.Reason != "" || end.Traffic.Sent != 5 || end.Traffic.Received != 5 ||
		end.Traffic.Address != addrPort(conn.LocalAddr()) {
		t.Errorf("%+v with %+v", end, end.Traffic)
	}
	g.Close()
	if c, err := net.Dial("tcp", netip.AddrPortFrom(loopback4, port).String()); err == nil {
		c.Close()
		t.Error("a closed gateway still listens")
	}
}

func TestPublishNobodyInside(t *testing.T) {
	port := freePort(t)
	_, sink, err := publishing(t, port, func(context.Context, uint16) (net.Conn, error) { return nil, unix.ECONNREFUSED })
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", netip.AddrPortFrom(loopback4, port).String())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%v", err)
	}
	<-sink.events
	if e := <-sink.events; e.Action != actionPublish || e.Decision != audit.Report || e.Errno != "ECONNREFUSED" {
		t.Errorf("%+v", e)
	}
}

func TestPublishTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := addrPort(l.Addr()).Port()
	_, _, err = publishing(t, port, func(context.Context, uint16) (net.Conn, error) { return nil, unix.ECONNREFUSED })
	var taken *PublishError
	if !errors.As(err, &taken) || taken.Port != port || !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v", err)
	}
}
