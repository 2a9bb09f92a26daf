package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cvold/cvold/client"
)

const (
	// peerTimeout is how long a peer may take to say what it knows; after it the answer is made without it.
	peerTimeout = 3 * time.Second
	// forwardTimeout bounds a request that another node answers; it is above what that node allows itself.
	forwardTimeout = workTimeout + peerTimeout
	// maxPeerAnswer bounds what is read of a peer's answer: the list of some 20000 volumes.
	maxPeerAnswer = 32 << 20
	// asksAtOnce bounds the peers asked at the same time for one request.
	asksAtOnce = 16

	// partialHeader names the nodes that did not answer in time, and are missing from a list.
	partialHeader = client.PartialHeader
	// rankHeader tells agents which of several answers about one id is right: the highest. It is the volume's owner
	// epoch, or for migrations 2 at the source and 1 at the target.
	rankHeader = "X-Cvold-Rank"
	// hostHeader is how the client called the agent that forwards, for the links in the answer.
	hostHeader = "X-Forwarded-Host"
	// requestHeader is the request's id in both logs.
	requestHeader = "X-Openstack-Request-Id"
)

// Headers that go with a forwarded request, and that come back with its answer.
var (
	forwardedHeaders = []string{"Content-Type", "Accept", "Openstack-Api-Version", "X-Project-Id", "X-User-Id", "User-Agent"}
	returnedHeaders  = []string{"Content-Type", "Allow", rankHeader, partialHeader, client.MigrationHeader}
)

// request builds what is asked of a peer, from the headers of the exchange.
func (x *exchange) request(ctx context.Context, method, target string, body io.Reader) (*http.Request, error) {
	out, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("forward %s %s: %w", method, target, err)
	}
	for _, name := range forwardedHeaders {
		if v := x.in.Header.Values(name); len(v) > 0 {
			out.Header[name] = v
		}
	}
	out.Header.Set(hostHeader, x.in.Host)
	out.Header.Set(requestHeader, x.requestID)
	return out, nil
}

// forward lets node answer.
func (x *exchange) forward(node string) error {
	a, err := x.send(node)
	if err != nil {
		return err
	}
	x.relay(a)
	return nil
}

// reply is the whole answer of another node.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// send sends the request to node, and returns what it answers. An error says that it does not.
func (x *exchange) send(node string) (reply, error) {
	ctx, cancel := context.WithTimeout(x.r.Context(), forwardTimeout)
	defer cancel()
	var body io.Reader
	if x.in.Method != http.MethodGet && x.in.Method != http.MethodHead {
		p, err := x.readBody()
		if err != nil {
			return reply{}, err
		}
		body = bytes.NewReader(p)
	}
	target := url.URL{Path: x.in.URL.Path, RawPath: x.in.URL.RawPath, RawQuery: x.in.URL.RawQuery}
	out, err := x.request(ctx, x.in.Method, target.String(), body)
	if err != nil {
		return reply{}, err
	}
	if x.s.o.Peers == nil {
		return reply{}, unreachable(node, fmt.Errorf("this agent has no peers"))
	}
	answer, err := x.s.o.Peers.Forward(ctx, node, out, x.caller)
	if err != nil {
		return reply{}, unreachable(node, err)
	}
	defer answer.Body.Close()
	p, err := readAnswer(answer)
	if err != nil {
		return reply{}, unreachable(node, err)
	}
	return reply{answer.StatusCode, answer.Header, p}, nil
}

// relay answers what another node answered.
func (x *exchange) relay(a reply) {
	for _, name := range returnedHeaders {
		if v := a.header.Values(name); len(v) > 0 {
			x.w.Header()[name] = v
		}
	}
	x.w.WriteHeader(a.code)
	_, _ = x.w.Write(a.body) // a client that left is no error of the request
}

// unreachable is the 503 of a request whose node does not answer. A changing call may have been carried out.
func unreachable(node string, err error) error {
	return fault{http.StatusServiceUnavailable, fmt.Sprintf("node %s, which has to answer this, does not: %v", node, err)}
}

func readAnswer(answer *http.Response) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(answer.Body, maxPeerAnswer+1))
	if err == nil && len(p) > maxPeerAnswer {
		err = fmt.Errorf("answer is longer than %d bytes", maxPeerAnswer)
	}
	return p, err
}

// said is what one peer answered to a question.
type said struct {
	node string
	code int
	rank uint64
	body []byte
	// err says that it did not answer.
	err error
}

// ask asks all peers the same, at the same time, and returns their answers in the order of their names.
func (x *exchange) ask(target string) []said {
	if x.s.o.Peers == nil || x.caller.Forwarded {
		return nil
	}
	nodes := slices.Sorted(slices.Values(x.s.o.Peers.Nodes()))
	answers := make([]said, len(nodes))
	places := make(chan struct{}, asksAtOnce)
	ctx, cancel := x.patience(peerTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			answers[i] = x.askOne(ctx, node, target)
		})
	}
	wg.Wait()
	return answers
}

func (x *exchange) askOne(ctx context.Context, node, target string) said {
	out, err := x.request(ctx, http.MethodGet, target, nil)
	if err != nil {
		return said{node: node, err: err}
	}
	answer, err := x.s.o.Peers.Forward(ctx, node, out, x.caller)
	if err != nil {
		return said{node: node, err: err}
	}
	defer answer.Body.Close()
	body, err := readAnswer(answer)
	rank, _ := strconv.ParseUint(answer.Header.Get(rankHeader), 10, 64) // none is 0
	if answer.StatusCode >= http.StatusInternalServerError && err == nil {
		err = client.ParseError(answer.StatusCode, body)
	}
	return said{node: node, code: answer.StatusCode, rank: rank, body: body, err: err}
}

// find asks the peers which of them is the home of id; empty if none is. If one of them did not answer, nobody can say
// that the id is unknown.
func (s *Server) find(x *exchange, h home, id string) (string, error) {
	node, rank := "", uint64(0)
	var silent []string
	for _, a := range x.ask(probes[h] + url.PathEscape(id)) {
		switch {
		case a.err != nil:
			silent = append(silent, a.node)
		case a.code == http.StatusOK && (node == "" || a.rank > rank):
			node, rank = a.node, a.rank
		}
	}
	if node == "" && len(silent) > 0 {
		says := fmt.Sprintf("%s is not known here, and %s does not answer", id, strings.Join(silent, ", "))
		return "", fault{http.StatusServiceUnavailable, says}
	}
	return node, nil
}

// peerVolumes is the list that agents exchange: volumes, with the owner epoch of each.
type peerVolumes struct {
	Volumes []client.Volume   `json:"volumes"`
	Epochs  map[string]uint64 `json:"cvold:epochs"`
}

// merge adds the volumes of all peers to local. Of two records of one volume that with the higher epoch is right.
func (x *exchange) merge(local peerVolumes) []*client.Volume {
	lists := append([]peerVolumes{local}, askLists[peerVolumes](x, "/v3/volumes/detail")...)
	all := make([]*client.Volume, 0, len(local.Volumes))
	if len(lists) == 1 { // one list has each volume once
		for i := range local.Volumes {
			all = append(all, &local.Volumes[i])
		}
		return all
	}
	place, epochs := make(map[string]int, len(local.Volumes)), make(map[string]uint64, len(local.Volumes))
	for _, list := range lists {
		for i := range list.Volumes {
			v := &list.Volumes[i]
			at, there := place[v.ID]
			switch epoch := list.Epochs[v.ID]; {
			case !there:
				place[v.ID], epochs[v.ID] = len(all), epoch
				all = append(all, v)
			case epoch > epochs[v.ID]:
				all[at], epochs[v.ID] = v, epoch
			}
		}
	}
	return all
}

// askLists asks all peers for their part of a list. Those whose answer is no such list are told in the header.
func askLists[T any](x *exchange, target string) (lists []T) {
	var silent []string
	for _, a := range x.ask(target) {
		var list T
		if a.err != nil || a.code != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
			silent = append(silent, a.node)
			continue
		}
		lists = append(lists, list)
	}
	if len(silent) > 0 {
		x.w.Header().Set(partialHeader, strings.Join(silent, ","))
	}
	return lists
}
