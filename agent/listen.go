package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/cvold/cvold/agent/api"
	"github.com/cvold/cvold/internal/pki"
	"github.com/cvold/cvold/nbd"
)

// listeners are the agent's sockets; those that are not configured are nil.
type listeners struct {
	api, loopback, nbdUnix, nbdTCP, peer, metrics net.Listener
}

// advertised is the address of NBD over TCP for peers: without a host if it listens on all of them; empty without TCP.
func (l *listeners) advertised() string {
	if l.nbdTCP == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(l.nbdTCP.Addr().String())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	return net.JoinHostPort(host, port)
}

// listen opens every socket, so that an address in use is known before anything is served.
func (a *Agent) listen(passed map[string]net.Listener) error {
	if err := a.checkPassed(passed); err != nil {
		return err
	}
	l, c := &a.listeners, a.config
	a.onClose("sockets", func(context.Context) error { return l.close() })
	tcp := func(address string) func() (net.Listener, error) {
		if address == "" {
			return nil
		}
		return func() (net.Listener, error) { return net.Listen("tcp", address) }
	}
	for _, one := range []struct {
		into   *net.Listener
		passed net.Listener
		option string
		make   func() (net.Listener, error)
	}{
		{&l.api, passed["api"], "socket", func() (net.Listener, error) { return api.Listen(c.Socket) }},
		{&l.loopback, passed["loopback"], "api_listen", tcp(c.APIListen)},
		{&l.nbdUnix, nil, "nbd_socket", func() (net.Listener, error) { return api.ListenPrivate(c.NBDSocket, c.AdminGroup) }},
		{&l.nbdTCP, passed["nbd"], "nbd_listen", tcp(c.NBDListen)},
		{&l.peer, passed["peer"], "peer_listen", tcp(c.PeerListen)},
		{&l.metrics, passed["metrics"], "metrics_listen", tcp(c.MetricsListen)},
	} {
		if *one.into = one.passed; one.passed != nil || one.make == nil {
			continue
		}
		made, err := one.make()
		if err != nil {
			return fmt.Errorf("%s: %w", one.option, err)
		}
		*one.into = made
	}
	return nil
}

// checkPassed refuses passed sockets that no part has, or that other machines would reach without certificates: the
// configuration's own check does not see them.
func (a *Agent) checkPassed(passed map[string]net.Listener) error {
	for _, name := range slices.Sorted(maps.Keys(passed)) {
		switch name {
		case "api":
		case "nbd", "peer", "metrics":
			if a.credentials == nil && (name != "metrics" || reached(passed[name])) {
				return fmt.Errorf("passed socket %s: want ca_file, cert_file and key_file too", name)
			}
		case "loopback":
			if err := api.LoopbackAddress(passed[name]); err != nil {
				return fmt.Errorf("passed socket %s: %w", name, err)
			}
		default:
			return fmt.Errorf("passed socket %q: want the name api, loopback, nbd, peer or metrics", name)
		}
	}
	return nil
}

// reached says that other machines reach l: its own address counts, for a passed socket is not in the configuration.
func reached(l net.Listener) bool {
	at, ok := l.Addr().(*net.TCPAddr)
	return ok && !at.IP.IsLoopback()
}

// close closes what no server has closed.
func (l *listeners) close() error {
	return closeAll([]net.Listener{l.api, l.loopback, l.nbdUnix, l.nbdTCP, l.peer, l.metrics})
}

func closeAll(all []net.Listener) error {
	var problems []error
	for _, one := range all {
		if one == nil {
			continue
		}
		if err := one.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (a *Agent) servePeers() {
	if l := a.listeners.peer; l != nil {
		a.serve("peer calls", func() error { return a.peerServer.Serve(l) })
	}
}

func (a *Agent) peerTLS() *tls.Config {
	if a.credentials == nil {
		return nil
	}
	return a.credentials.Server(pki.Peer)
}

func (a *Agent) serveNBD() {
	l := a.listeners
	a.serve("NBD", func() error { return a.nbd.Serve(l.nbdUnix, nbd.ListenOptions{}) })
	if l.nbdTCP != nil {
		a.serve("NBD over TCP", func() error { return a.nbd.Serve(l.nbdTCP, nbd.ListenOptions{RequireTLS: true}) })
	}
}

// metricsTimeout bounds one scrape's request and answer.
const metricsTimeout = 30 * time.Second

func (a *Agent) serveAPI() {
	a.serve("API", func() error { return a.api.Serve(a.listeners.api) })
	a.serveLoopback()
	l := a.listeners.metrics
	if l == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: metricsTimeout, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout,
		IdleTimeout: 2 * metricsTimeout, MaxHeaderBytes: 64 << 10,
	}
	a.onClose("metrics", func(ctx context.Context) error { return errors.Join(s.Shutdown(ctx), s.Close()) })
	if a.config.MetricsTLS() || reached(l) {
		l = tls.NewListener(l, a.credentials.Server(pki.Peer, pki.Client))
	}
	a.serve("metrics", func() error { return s.Serve(l) })
}

// everyoneIsAdmin warns of insecure_loopback_admin in the status; config.Warnings does at start.
const everyoneIsAdmin = "insecure_loopback_admin is set: every user and program of this machine that connects to %s commands the agent as root does"

func (a *Agent) serveLoopback() {
	l := a.listeners.loopback
	if l == nil {
		return
	}
	everyone := a.config.InsecureLoopbackAdmin
	a.serve("API over TCP", func() error { return a.api.ServeLoopback(l, everyone) })
}
