// Package nbd serves dataplane devices over the Network Block Device protocol, and opens what others serve as a
// dataplane.Device. The standard is the NBD protocol document (doc/proto.md of the NetworkBlockDevice project); comments
// name its sections in quotes.
//
// A connection has two lives, joined by one value:
//
//	accept ─▶ negotiation ─▶ Session ─▶ transmission ─▶ closed
//	          options, TLS    (JSON)    requests, replies
//
// A Session is all that transmission knows of negotiation, so a connection can be taken over by whoever holds its socket
// and its Session.
//
// Both ends are pipelined. The server's workers of one connection take turns at reading a request and then carry it out
// beside each other, replying in any order; a worker that cannot get memory keeps its turn, so the client is held back
// by its own socket. While the device answers as fast as memory, the worker with the turn does request after request
// itself; a timer takes the turn from it when the device is late after all. The client's callers each hold one of a fixed number of slots until the reply with the slot's
// cookie has come.
//
// The shape of an export, the contract of a backend, and the protocol's numbers and headers are those of go-nbd
// (github.com/pojntfx/go-nbd); its negotiation, transmission and client are not used.
package nbd
