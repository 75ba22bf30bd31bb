// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentjail/agentjail/internal/audit"
	"github.com/agentjail/agentjail/profiles"
)

// A relay carries the HTTP requests of one connection each for itself: a request is judged by what the rules grant, sent on a
// connection of the relay's own, and answered before the next one is read. It is used where the rules look at requests; elsewhere
// serveHTTP passes bytes on.
type relay struct {
	l      *link
	scheme string
	rules  []profiles.Rule
	proxy  httputil.ReverseProxy
	told   sync.Once // the allow event

	switched atomic.Bool // a connection to the server is no HTTP any more, but the client's
	mu       sync.Mutex
	closed   bool
	conns    map[*served]struct{}
	work     sync.WaitGroup // net/http goes on with it when a request is over
}

// Bounds of a relay.
const (
	maxAnswerHead = 1 << 20          // of the head of a server's answer
	maxServers    = 8                // connections to the server for one of the client
	idleServer    = 90 * time.Second // of such a connection
)

// quiet takes what net/http would write to standard error.
var quiet = stdlog.New(io.Discard, "", 0)

// copyBuffers are for bodies.
var copyBuffers = &buffers{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte    { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *buffers) Put(buf []byte) { b.pool.Put((*[32 << 10]byte)(buf)) }

// newRelay returns the relay of a connection whose route is known.
func (l *link) newRelay(scheme string, rules []profiles.Rule) *relay {
	l.sending.over() // what waits for an answer ends with who asked
	x := &relay{l: l, scheme: scheme, rules: rules, conns: make(map[*served]struct{})}
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return x.dial() },
		DisableCompression:     true, // bodies pass as they are
		MaxConnsPerHost:        maxServers,
		MaxIdleConnsPerHost:    maxServers,
		IdleConnTimeout:        idleServer,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHead,
		TLSClientConfig:        &tls.Config{ServerName: l.name, RootCAs: l.g.cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    l.g.wait.proof,
		ForceAttemptHTTP2:      true,
	}
	if l.plain {
		via := &url.URL{Scheme: "http", Host: l.via, User: l.by.User} // the connection to it is made by dial
		transport.Proxy = func(*http.Request) (*url.URL, error) { return via, nil }
	}
	x.proxy = httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: transport, ModifyResponse: x.answered, ErrorHandler: x.failed,
		FlushInterval: -1, ErrorLog: quiet, BufferPool: copyBuffers,
	}
	return x
}

// An asked request is what is known of one while it is on its way.
type asked struct {
	target string // of events
	rule   string
	body   *upload
	said   atomic.Bool // what became of it is on record
}

type askedKey struct{}

func askedOf(r *http.Request) *asked { return r.Context().Value(askedKey{}).(*asked) }

// ServeHTTP judges one request, whose form was checked, and passes it on.
func (x *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &asked{target: requestTarget(x.scheme, x.authority(), r.Method, r.RequestURI)}
	rule, err := grantRequest(x.rules, request{r.Method, r.RequestURI, r.ContentLength, r.Header})
	switch {
	case err != nil:
	case x.l.plain && r.Method == http.MethodTrace:
		err = denied("TRACE asks a proxy to show the request, with its credentials")
	case rule.Requests.MaxUpload > 0 && r.Header.Get("Upgrade") != "":
		err = denied("a websocket has no length that max_upload could bound")
	}
	a.rule = rule.String()
	if err != nil {
		x.refuse(w, a, err)
		return
	}
	a.body = &upload{ReadCloser: r.Body, x: x, asked: a, most: rule.Requests.MaxUpload}
	r = r.WithContext(context.WithValue(r.Context(), askedKey{}, a))
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = a.body
	}
	x.proxy.ServeHTTP(w, r)
}

// authority is the host, with the port where the scheme has another one.
func (x *relay) authority() string {
	to := target(x.l.name, x.l.dst)
	return strings.TrimSuffix(to, map[string]string{"http": ":80", "https": ":443"}[x.scheme])
}

// emit writes an event about a request.
func (x *relay) emit(a *asked, decision audit.Decision, reason string) {
	x.l.emitFor(a.target, actionRequest, decision, a.rule, reason, "")
}

// refuse denies a request, and says why.
func (x *relay) refuse(w http.ResponseWriter, a *asked, err error) {
	var bad *headError
	if !errors.As(err, &bad) {
		bad = &headError{actionRequest, http.StatusBadRequest, err.Error()}
	}
	if !a.said.Swap(true) {
		x.emit(a, audit.Deny, bad.why)
	}
	why := bad.why
	if bad.action == actionRequest {
		why = withFix(why, "methods, paths or max_upload of the rule for "+x.l.name+" in the policy")
	}
	x.answer(w, bad.status, why)
}

// answer is an answer of the gateway's own.
func (x *relay) answer(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Agentjail", "refused")
	body := "agentjail: " + why + "\n"
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// rewrite leads a request to the server that it is for. What the client said stays as it is, but for what is between it and the gateway.
func (x *relay) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.User = x.scheme, target(x.l.name, x.l.dst), nil
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := r.In.Header.Values(name); len(values) > 0 {
			r.Out.Header[name] = values
		}
	}
	r.Out.Host = x.authority()
	r.Out.Close = hasOddBody(r.In)
	r.Out.Trailer = nil // fields that come after the request was judged: RFC 9110 section 6.5.1 has them dropped, not merged
	if _, ok := r.Out.Header["User-Agent"]; !ok {
		r.Out.Header.Set("User-Agent", "") // none is added
	}
}

// answered sees the head of each answer, before the client does.
func (x *relay) answered(res *http.Response) error {
	l := x.l
	if res.StatusCode < 100 { // RFC 9110 section 15; to the client there would be an answer before the answer
		return fmt.Errorf("the server answered with status %03d, which there is not", res.StatusCode)
	}
	if l.plain && res.StatusCode == http.StatusProxyAuthRequired {
		return fmt.Errorf("the proxy %s: %w; NO_PROXY lists what is reached without it", l.via, &proxyRefusal{res.StatusCode, quote(res.Status)})
	}
	if l.plain && (res.StatusCode == http.StatusForbidden || res.StatusCode >= http.StatusBadGateway && res.StatusCode <= http.StatusGatewayTimeout) {
		l.failed(fmt.Sprintf("the proxy %s answered %s, or the server behind it did", l.via, quote(res.Status)), "")
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		if !takesWebsocket(res.Request.Header, res.Header) {
			return errNoWebsocket
		}
		x.switched.Store(true)
	}
	if a := askedOf(res.Request); !a.said.Swap(true) {
		x.emit(a, audit.Allow, fmt.Sprintf("answered with status %d", res.StatusCode))
	}
	return nil
}

// failed answers a request that could not be passed on, or whose answer never came.
func (x *relay) failed(w http.ResponseWriter, r *http.Request, err error) {
	l, a := x.l, askedOf(r)
	var (
		bad    *headError
		spent  *quotaError
		closed *closedError
	)
	switch {
	case errors.As(cmp.Or(a.body.failure(), err), &bad):
		x.refuse(w, a, bad)
	case errors.As(err, &spent):
		x.answer(w, http.StatusForbidden, target(l.name, l.dst)+" is allowed, but "+spent.reason())
	case errors.As(err, &closed):
		x.answer(w, http.StatusForbidden, closed.answer(target(l.name, l.dst)))
	case r.Context().Err() != nil:
		x.emit(a, audit.Report, "the client was gone before the answer came")
		panic(http.ErrAbortHandler)
	default:
		l.failed(err.Error(), errnoName(err))
		x.answer(w, http.StatusBadGateway, l.unreached())
	}
}

// An upload is the body of a request on its way to the server. It ends with an error when it is longer than the rule grants.
type upload struct {
	io.ReadCloser
	x     *relay
	asked *asked
	most  int64 // 0: no bound

	mu   sync.Mutex
	read int64
	err  error
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = badChunk(err)
	}
	if n, err = u.count(n, err); u.failed(err) && !u.asked.said.Swap(true) {
		u.x.emit(u.asked, audit.Deny, err.Error())
	}
	return n, err
}

// count adds what was read, and passes none of it on where that is too much.
func (u *upload) count(n int, err error) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.read += int64(n); u.most > 0 && u.read > u.most {
		n, err = 0, tooLong(u.most)
	}
	if err != nil && u.err == nil {
		u.err = err
	}
	return n, err
}

func (u *upload) failed(err error) bool {
	var bad *headError
	return errors.As(err, &bad)
}

// failure is why the body could not be passed on, nil where it could.
func (u *upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if errors.Is(u.err, io.EOF) {
		return nil
	}
	return u.err
}

// serveRelay answers the requests of a plain HTTP connection.
func (l *link) serveRelay(rules []profiles.Rule) {
	if err := l.route(true); err != nil {
		l.failed(err.Error(), "")
		l.refuse(http.StatusBadGateway, l.unreached())
		return
	}
	l.conn = witnessed{wrapped{l.conn}, &l.traffic}
	l.in.conn = l.conn
	x := l.newRelay("http", rules)
	defer x.close()
	x.serve()
}

// serve answers the requests of an HTTP/1 connection, one after the other.
func (x *relay) serve() {
	l := x.l
	br := bufio.NewReaderSize(&l.in, maxHead)
	for {
		h, req, err := l.nextRequest(br, cmp.Or(l.name, l.asked))
		switch {
		case err != nil:
			l.refuseRequest(err)
			return
		case h == nil:
			return // the client has ended; that of the last request was answered
		}
		if h.upgrade != "websocket" {
			req.Header.Del("Upgrade")
			req.Header.Del("Http2-Settings")
		}
		res := newResponse(l.conn, br, req, l.held)
		res.last = res.last || l.absolute
		if !res.serve(l.g.ctx, x) {
			l.traffic.cut.Store(true)
			reset(l.conn)
			return
		}
		if res.hijacked {
			return
		}
		if res.last {
			drain(l.conn)
			return
		}
	}
}
