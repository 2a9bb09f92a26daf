// Package api is the HTTP of one agent: Cinder's dialect under /v3, the agent's own under /v1, and /metrics. Everything
// that can be asked stands in one table (routes.go) with who may ask it and where it is answered.
//
// Who asks is told by the kernel: Serve reads the peer credentials of each unix connection. uid 0, the agent's own uid and
// the members of the admin group are admins; all others may read volumes, without what concerns migrations and hosts, and
// change nothing. The socket's file mode (0666, see Listen) is therefore no barrier and need not be one. A request that a
// peer agent forwarded comes through Handler with its caller put into the context by WithCaller.
//
// Any agent answers for all: a request about a volume of another node is forwarded to its owner, once, and lists hold the
// volumes of all peers. If a peer does not answer in its time, a list is still answered, with the header X-Cvold-Partial
// naming the nodes that are missing from it.
package api
