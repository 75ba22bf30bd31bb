// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Where the server of bench net is. The name is one that only its resolver has, for a public address that only its namespace has.
const (
	serverAddr = "5.6.7.8:7000"
	relayAddr  = "5.6.7.8:7002"
	localPort  = "7000"
	localAddr  = "127.0.0.1:" + localPort
	serverName = "bench.test:7000"
)

// A connection to the server carries requests: a letter and a number of eight bytes.
const (
	askDown    = 'D' // answered by so many bytes
	askUp      = 'U' // followed by so many bytes, answered by one
	askRequest = 'R' // answered by 1 KiB
	askHold    = 'H' // answered by 1 KiB, when the memory of the way has been looked at: the number is of the time
	askHello   = 22  // the first byte of a TLS record, answered by 1 KiB: what a name costs, without the cost of ciphers
)

const answerSize = 1 << 10

// manyTime bounds the opening of many connections.
const manyTime = 20 * time.Second

// serveAll serves the server's protocol and its name, until the process ends. It calls hold for what is held.
func serveAll(hold func(time int64)) error {
	for _, addr := range []string{serverAddr, localAddr} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go acceptAll(l, func(c net.Conn) { serve(c, hold) })
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			host, _, _ := net.SplitHostPort(serverAddr)
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(host)}}
		}
		w.WriteMsg(m)
	})
	go (&dns.Server{PacketConn: c, Handler: answer}).ActivateAndServe()
	return nil
}

func acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func serve(c net.Conn, hold func(time int64)) {
	head, block := make([]byte, 9), make([]byte, 256<<10)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		n := int64(binary.BigEndian.Uint64(head[1:]))
		var err error
		switch head[0] {
		case askDown:
			for ; n > 0 && err == nil; n -= int64(len(block)) {
				_, err = c.Write(block[:min(n, int64(len(block)))])
			}
		case askUp:
			if _, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, n), block); err == nil {
				_, err = c.Write(block[:1])
			}
		case askHello:
			rest := int64(binary.BigEndian.Uint16(head[3:])) + 5 - int64(len(head))
			if _, err = io.CopyN(io.Discard, c, rest); err == nil {
				_, err = c.Write(block[:answerSize])
			}
		case askHold:
			hold(n)
			_, err = c.Write(block[:answerSize])
		default:
			_, err = c.Write(block[:answerSize])
		}
		if err != nil {
			return
		}
	}
}

// relay carries connections as simply as Go can: accept, dial, and io.Copy, which uses splice(2), both ways.
func relay(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench relay LISTEN SERVER")
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	acceptAll(l, func(c net.Conn) {
		up, err := net.Dial("tcp", args[1])
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(c, up)
			c.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(up, c)
		up.(*net.TCPConn).CloseWrite()
	})
	return nil
}

// client measures one task and prints a sample.
func client(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench client SERVER TASK AMOUNT")
	}
	amount := args[2]
	var s sample
	server, err := resolved(args[0])
	if err != nil {
		return err
	}
	switch args[1] {
	case "down", "up":
		s, err = transfer(server, args[1], amount)
	case "keep":
		s, err = requests(amount, func() (func() error, error) {
			c, err := dialServer(server)
			return func() error { return request(c, ask(askRequest, 0)) }, err
		})
	case "new", "hello":
		message := ask(askRequest, 0)
		if args[1] == "hello" {
			message, err = helloFor(args[0])
		}
		if err == nil {
			s, err = requests(amount, func() (func() error, error) { return func() error { return once(server, message) }, nil })
		}
	case "many":
		s, err = many(server, amount)
	case "dns":
		s, err = requests(amount, askDNS)
	case "tls-down", "tls-up":
		s, err = transferTLS(server, args[0], args[1] == "tls-up", amount)
	default:
		err = fmt.Errorf("there is no task %q", args[1])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// resolved asks for the address of a server once: a way by name is compared with ways by address, and DNS has a number of its own.
// A name that is a proxy's to resolve stays one.
func resolved(server string) (string, error) {
	if proxy, err := proxyFor(server); err != nil || proxy != nil {
		return server, err
	}
	addr, err := net.ResolveTCPAddr("tcp4", server)
	if err != nil {
		return "", err
	}
	return addr.String(), nil
}

func proxyFor(server string) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: server}})
}

func ask(kind byte, n int64) []byte { return binary.BigEndian.AppendUint64([]byte{kind}, uint64(n)) }

// dialServer connects, by the proxy that the environment names for https.
func dialServer(server string) (net.Conn, error) {
	proxy, err := proxyFor(server)
	if err != nil || proxy == nil {
		return net.Dial("tcp", server)
	}
	c, err := net.Dial("tcp", proxy.Host)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: server}, Host: server, Header: http.Header{}}
	if password, ok := proxy.User.Password(); ok {
		r.SetBasicAuth(proxy.User.Username(), password)
		r.Header.Set("Proxy-Authorization", r.Header.Get("Authorization"))
	}
	if err := r.Write(c); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(bufio.NewReaderSize(c, 16), r) // nothing follows before the client speaks
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return c, err
}

func request(c net.Conn, message []byte) error {
	if _, err := c.Write(message); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, answerSize))
	return err
}

// once makes one request of a connection.
func once(server string, message []byte) error {
	c, err := dialServer(server)
	if err != nil {
		return err
	}
	defer c.Close()
	return request(c, message)
}

// transfer measures MiB a second, from the first byte on.
func transfer(server, task, amount string) (s sample, err error) {
	n, err := strconv.ParseInt(amount, 10, 64)
	if err != nil {
		return s, err
	}
	c, err := dialServer(server)
	if err != nil {
		return s, err
	}
	defer c.Close()
	block := make([]byte, 256<<10)
	began := time.Now()
	if task == "down" {
		if _, err = c.Write(ask(askDown, n)); err == nil {
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, n), block)
		}
	} else {
		_, err = c.Write(ask(askUp, n))
		for rest := n; rest > 0 && err == nil; rest -= int64(len(block)) {
			_, err = c.Write(block[:min(rest, int64(len(block)))])
		}
		if err == nil {
			_, err = io.ReadFull(c, block[:1])
		}
	}
	s.Rate = float64(n) / (1 << 20) / time.Since(began).Seconds()
	return s, err
}

// requests has 8 clients ask at once, for a time.
func requests(amount string, start func() (func() error, error)) (s sample, err error) {
	length, err := time.ParseDuration(amount)
	if amount == "1" { // a trial
		f, err := start()
		if err == nil {
			err = f()
		}
		return s, err
	}
	if err != nil {
		return s, err
	}
	const clients = 8
	var mu sync.Mutex
	var work sync.WaitGroup
	var took []time.Duration
	var failed error
	began := time.Now()
	for range clients {
		work.Go(func() {
			f, err := start()
			var mine []time.Duration
			for err == nil && time.Since(began) < length {
				at := time.Now()
				err = f()
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			failed = errors.Join(failed, err)
		})
	}
	work.Wait()
	s.Count = len(took)
	s.Rate = float64(len(took)) / time.Since(began).Seconds()
	slices.Sort(took)
	if len(took) > 0 {
		s.P50, s.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	return s, failed
}

// many opens connections until so many are open or the time is over, and asks once by each. The rate is how many of them were answered.
// It has the memory of the way looked at when the first is open, and when all are.
func many(server, amount string) (s sample, err error) {
	n, err := strconv.Atoi(amount)
	if err != nil {
		return s, err
	}
	until := time.Now().Add(manyTime)
	var first net.Conn
	for i := range n {
		c, err := dialServer(server)
		if err != nil || time.Now().After(until) {
			break
		}
		defer c.Close()
		c.SetDeadline(until)
		message := ask(askRequest, 0)
		if i == 0 {
			first, message = c, ask(askHold, 0)
		}
		if request(c, message) == nil {
			s.Rate++
		}
	}
	if first == nil {
		return s, errors.New("not one connection could be made")
	}
	first.SetDeadline(time.Now().Add(manyTime))
	return s, request(first, ask(askHold, 1))
}

// askDNS asks the resolver of /etc/resolv.conf for the server's name.
func askDNS() (func() error, error) {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(config.Servers) == 0 {
		return nil, errors.Join(err, errors.New("no resolver"))
	}
	c, err := dns.Dial("udp", net.JoinHostPort(config.Servers[0], config.Port))
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(serverName)
	return func() error {
		if err := c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(host), dns.TypeA)); err != nil {
			return err
		}
		_, err := c.ReadMsg()
		return err
	}, nil
}
