package api

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// Caller is who makes a request.
type Caller struct {
	// UID and GID of the process at the other end of the unix socket, on the node it called.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Admin may do everything; others may read volumes.
	Admin bool `json:"admin"`
	// Forwarded says that the request came from a peer, which judged Admin; it is never forwarded again.
	Forwarded bool `json:"-"`
	// Node is the peer, empty if not Forwarded.
	Node string `json:"-"`
}

type callerKey struct{}

// WithCaller returns a context whose requests are made by c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom is who makes the request of ctx; false if nobody said, and then nothing is allowed.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// access says who may use a route.
type access int

const (
	// anyone whose caller is known.
	anyone access = iota
	// admins only.
	admins
)

// judge decides who is an admin. It never changes after newJudge.
type judge struct {
	ownUID uint32
	// groupName is empty without an admin group.
	groupName string
	gid       uint32
}

// newJudge resolves the admin group, a name or a number, once; empty for none.
func newJudge(group string) (judge, error) {
	j := judge{ownUID: uint32(os.Geteuid()), groupName: group}
	if group == "" {
		return j, nil
	}
	gid, err := GroupID(group)
	if err != nil {
		return judge{}, fmt.Errorf("admin %w", err)
	}
	j.gid = gid
	return j, nil
}

// GroupID is the number of a group of this machine that is given by its name or its number; an error if there is no such group.
func GroupID(group string) (uint32, error) {
	number := group
	if g, err := user.LookupGroup(group); err == nil {
		number = g.Gid
	}
	gid, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("group %q: no such group on this node", group)
	}
	return uint32(gid), nil
}

// caller judges the process behind a connection. groups are its supplementary groups.
func (j judge) caller(uid, gid uint32, groups []uint32) Caller {
	c := Caller{UID: uid, GID: gid, Admin: uid == 0 || uid == j.ownUID}
	if j.groupName == "" {
		return c
	}
	for _, g := range append([]uint32{gid}, groups...) {
		c.Admin = c.Admin || g == j.gid
	}
	return c
}

// allow is nil if c may use a route for a, else the 403.
func (j judge) allow(c Caller, known bool, a access) error {
	switch {
	case !known:
		return fault{403, "the caller is not known: only the unix socket and peer agents tell who asks"}
	case a == admins && !c.Admin:
		return fault{403, fmt.Sprintf("uid %d may only read volumes here; this needs %s", c.UID, j.who())}
	}
	return nil
}

// who names the admins in a sentence.
func (j judge) who() string {
	s := "root"
	if j.ownUID != 0 {
		s += fmt.Sprintf(", uid %d", j.ownUID)
	}
	if j.groupName != "" {
		s += fmt.Sprintf(" or a member of group %s", j.groupName)
	}
	return s
}
