// Package peer carries the calls between agents: JSON over HTTP over mutual TLS, one path a call of migration.Peer, and
// the requests that one agent forwards to another because the other owns the volume.
//
// Who calls is what the certificate says, never what the message says: a peer's certificate names its node and has the
// role peer (package pki), and the node must be one that the configuration names.
package peer
