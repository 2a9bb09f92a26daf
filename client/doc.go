// Package client speaks to a cvold agent through its unix socket, and holds the wire types of both HTTP dialects: the
// part of Cinder's API that the agent answers (/v3) and the agent's own (/v1). The agent's API package answers with the
// same types, so that the two ends cannot drift apart.
//
// The Cinder types have the keys that Cinder 21 (microversion 3.70) answers with, under the same names; what Cinder has
// no word for stands beside them under keys that begin with "cvold:". Sizes in Cinder's own keys are GiB, rounded up;
// everywhere else they are bytes.
package client
