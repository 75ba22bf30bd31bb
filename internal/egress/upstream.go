// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"

	"github.com/agentjail/agentjail/profiles"
)

// maxProxyHead bounds what a proxy answers to CONNECT.
const maxProxyHead = 16 << 10

// An upstream knows which proxy of the host's network a destination is reached by. The zero upstream knows none.
type upstream struct {
	named profiles.Upstream
	find  func(*url.URL) (*url.URL, error)
}

func newUpstream(u profiles.Upstream) upstream {
	if !u.Used() {
		return upstream{}
	}
	c := httpproxy.Config{NoProxy: u.NoProxy}
	if u.HTTP != nil {
		c.HTTPProxy = u.HTTP.String()
	}
	if u.Other != nil {
		c.HTTPSProxy = u.Other.String()
	}
	return upstream{u, c.ProxyFunc()}
}

// proxyFor returns the proxy for a destination HOST:PORT, nil for none. plain says that plain HTTP is spoken. What a port
// takes must not depend on how soon a client speaks: all that is not seen to be HTTP goes by one proxy.
func (u upstream) proxyFor(target string, plain bool) (*url.URL, error) {
	if u.find == nil {
		return nil, nil
	}
	scheme := "https"
	if plain {
		scheme = "http"
	}
	return u.find(&url.URL{Scheme: scheme, Host: target})
}

// host is host and port of the proxy for a destination, "" for none.
func (u upstream) host(target string, plain bool) string {
	p, err := u.proxyFor(target, plain)
	if err != nil || p == nil {
		return ""
	}
	return p.Host
}

// speaksHTTP tells an HTTP proxy from a SOCKS one.
func speaksHTTP(p *url.URL) bool { return p.Scheme == "http" || p.Scheme == "https" }

// speaksTLS tells a proxy that is spoken to by TLS.
func speaksTLS(p *url.URL) bool { return p != nil && p.Scheme == "https" }

// basic is the Proxy-Authorization for a proxy, RFC 7617 section 2, or "".
func basic(p *url.URL) string {
	if p.User == nil {
		return ""
	}
	password, _ := p.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User.Username()+":"+password))
}

// throughProxy returns a connection by way of a proxy: to the proxy itself if direct, where requests are in absolute form, and
// otherwise to the target behind it. The errors name the proxy without its credentials, and say what was wrong.
func (g *Gateway) throughProxy(p *url.URL, target string, direct bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.ctx, g.wait.dial)
	defer cancel()
	conn, err := g.dialProxy(ctx, p)
	if err == nil && !direct {
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		err = askProxy(ctx, conn, p, target)
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the proxy %s: %w; NO_PROXY lists what is reached without it", p.Host, err)
	}
	return conn, nil
}

// dialProxy connects to a proxy. Its address is the caller's own choice, and may be a special one.
func (g *Gateway) dialProxy(ctx context.Context, p *url.URL) (net.Conn, error) {
	port, err := strconv.ParseUint(p.Port(), 10, 16)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 1)
	if addrs[0], err = netip.ParseAddr(p.Hostname()); err != nil {
		if addrs, err = g.lookup(p.Hostname()); err != nil {
			return nil, err
		}
	}
	conn, err := g.race(ctx, addrs[:min(len(addrs), maxAnswers)], uint16(port))
	if err != nil {
		return nil, err
	}
	if !speaksTLS(p) {
		return conn, nil
	}
	secure := tls.Client(conn, &tls.Config{ServerName: p.Hostname(), RootCAs: g.cfg.Roots})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// askProxy asks a proxy for a connection to the target.
func askProxy(ctx context.Context, conn net.Conn, p *url.URL, target string) error {
	if speaksHTTP(p) {
		return connectHTTP(conn, target, basic(p))
	}
	var auth *proxy.Auth
	if p.User != nil {
		password, _ := p.User.Password()
		auth = &proxy.Auth{User: p.User.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", p.Host, auth, established{conn})
	if err == nil {
		_, err = dialer.Dial("tcp", target)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// established is the way of package proxy to use a connection that stands.
type established struct{ conn net.Conn }

func (e established) Dial(string, string) (net.Conn, error) { return e.conn, nil }

// connectHTTP asks an HTTP proxy for a tunnel, RFC 9110 section 9.3.6.
func connectHTTP(conn net.Conn, target, credentials string) error {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if credentials != "" {
		request += "Proxy-Authorization: " + credentials + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return err
	}
	head, err := readProxyHead(conn)
	if err != nil {
		return err
	}
	status, text := proxyStatus(head)
	if status >= 200 && status <= 299 {
		return nil
	}
	return &proxyRefusal{status, text}
}

// A proxyRefusal is an answer of a proxy that is no success.
type proxyRefusal struct {
	status int    // 0: not HTTP
	text   string // quoted
}

func (e *proxyRefusal) Error() string {
	switch e.status {
	case 0:
		return "it answered " + e.text + ", which is not HTTP"
	case http.StatusProxyAuthRequired:
		return "it answered " + e.text + ": user and password stand before its host in HTTPS_PROXY or HTTP_PROXY"
	}
	return "it answered " + e.text
}

// readProxyHead reads the head of an answer and nothing of what follows: that is the server's, and stays in the kernel for
// splice(2).
func readProxyHead(conn net.Conn) ([]byte, error) {
	head := make([]byte, 0, 512)
	for headEnd(head) == 0 {
		if len(head) == maxProxyHead {
			return nil, fmt.Errorf("the head of its answer is longer than %d bytes", maxProxyHead)
		}
		head = append(head, 0)
		if _, err := io.ReadFull(conn, head[len(head)-1:]); err != nil {
			if errors.Is(err, io.EOF) && len(head) == 1 {
				return nil, errors.New("it closed the connection without an answer")
			}
			if errors.Is(err, io.EOF) {
				return head[:len(head)-1], nil // judged by its first line
			}
			return nil, err
		}
	}
	return head, nil
}

// proxyStatus returns the status of an HTTP/1 answer, 0 if it is none, and its first line, quoted, without the version.
func proxyStatus(head []byte) (status int, text string) {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	version, rest, _ := bytes.Cut(line, []byte(" "))
	digits := rest[:min(len(rest), 3)]
	n, err := strconv.ParseUint(string(digits), 10, 16)
	known := string(version) == "HTTP/1.1" || string(version) == "HTTP/1.0"
	if !whole || !known || err != nil || n < 100 || len(rest) > 3 && rest[3] != ' ' {
		return 0, quote(string(line))
	}
	return int(n), quote(string(rest))
}

// firstAnswer passes the first answer of a proxy to requests in absolute form on, up to the end of its head and what came with
// it. It reports false where that was none for the agent, and the connection is over. An answer that the proxy may have made
// itself is on record: nothing else tells why nothing works.
func (l *link) firstAnswer() bool {
	br := bufio.NewReaderSize(l.up, maxHead)
	for {
		head, err := peekHead(br)
		status, text := proxyStatus(head)
		switch {
		case errors.Is(err, net.ErrClosed):
			return false // by this side
		case len(head) == 0 && err != nil:
			l.spoilt("it closed the connection without an answer")
			return false
		case status == 0 || status == http.StatusProxyAuthRequired:
			l.spoilt((&proxyRefusal{status, text}).Error())
			return false
		case status == http.StatusForbidden || status >= http.StatusBadGateway && status <= http.StatusGatewayTimeout:
			l.failed(fmt.Sprintf("the proxy %s answered %s, or the server behind it did", l.via, text), "")
		case status < 200:
			br.Discard(len(head)) // 100 Continue and the like: the answer is still to come
		}
		if status >= 200 {
			head, _ = br.Peek(br.Buffered())
		}
		if _, err := l.conn.Write(head); err != nil {
			reset(l.up)
			return false
		}
		if status >= 200 {
			return true
		}
	}
}

// peekHead waits for a whole head. With an error, it is what came.
func peekHead(br *bufio.Reader) ([]byte, error) {
	for {
		raw, _ := br.Peek(br.Buffered())
		if end := headEnd(raw); end > 0 {
			return raw[:end], nil
		}
		if _, err := br.Peek(len(raw) + 1); err != nil {
			return raw, err
		}
	}
}

// spoilt ends a connection whose first answer must not reach the agent.
func (l *link) spoilt(why string) {
	l.failed(fmt.Sprintf("the proxy %s: %s; NO_PROXY lists what is reached without it", l.via, why), "")
	farewell(l.conn, httpAnswer(502, l.unreached()))
	reset(l.up)
}
