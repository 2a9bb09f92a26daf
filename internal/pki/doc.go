// Package pki makes and checks the certificates with which nodes know each other.
//
// One authority signs for the whole fleet. Who a certificate belongs to and what it may do stands in its one URI:
//
//	cvold://node/NAME      a peer: an agent that others let prepare, commit and copy migrations
//	cvold://client/NAME    an NBD client: it may reach exports, and never the calls between peers
//
// DNS names and addresses in a certificate are for the tools of others (nbdinfo, curl); among ourselves only the URI counts,
// so that a node keeps its identity when its address changes, and no name server is trusted.
//
// In the authority's directory: ca.pem, ca.key, and for each name NAME.pem and NAME.key. Keys are ECDSA P-256, connections
// are TLS 1.3 only.
package pki
