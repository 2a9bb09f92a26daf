// Package freeport gives tests TCP ports that must be known before anyone listens on them.
package freeport

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

const (
	// first and span: ports from 10000 on, below 32768, which are not taken by connections that go out meanwhile. Where a
	// process begins depends on its id, for tests of several packages run at the same time.
	first, span = 10000, 20000
	// attempts is how many ports may be in use one after the other.
	attempts = 1000
)

// last is what was given last.
var last atomic.Int32

// Loopback is a TCP port of 127.0.0.1 that nobody listens on, and that no other test of this process gets.
func Loopback(t testing.TB) string {
	t.Helper()
	last.CompareAndSwap(0, first+int32(os.Getpid()*100%span))
	for range attempts {
		port := strconv.Itoa(int(last.Add(1)))
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}
