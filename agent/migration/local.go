package migration

import "context"

// served is both halves of an agent, as its peers call them and as it calls itself.
type served struct {
	engine *Engine
	target *Target
}

func (s *served) Describe(ctx context.Context, r DescribeRequest) (Description, error) {
	return s.target.Describe(ctx, r)
}
func (s *served) Prepare(ctx context.Context, r PrepareRequest) (PrepareReply, error) {
	return s.target.Prepare(ctx, r)
}
func (s *served) Digests(ctx context.Context, r DigestsRequest) (DigestsReply, error) {
	return s.target.Digests(ctx, r)
}
func (s *served) Ready(ctx context.Context, r ReadyRequest) (ReadyReply, error) {
	return s.target.Ready(ctx, r)
}
func (s *served) Commit(ctx context.Context, t Token) error { return s.target.Commit(ctx, t) }
func (s *served) UpdateMigrated(ctx context.Context, t Token) error {
	return s.target.UpdateMigrated(ctx, t)
}
func (s *served) Abort(ctx context.Context, t Token) error  { return s.target.Abort(ctx, t) }
func (s *served) Forget(ctx context.Context, t Token) error { return s.target.Forget(ctx, t) }
func (s *served) Outcome(ctx context.Context, t Token) (OutcomeReply, error) {
	return s.engine.Outcome(ctx, t)
}

// Served is both halves of this agent as its peers call them. The transport sets Token.Node before it calls.
func Served(e *Engine, t *Target) Peer { return &served{engine: e, target: t} }

// local is this agent as its own peer: the target of a migration between two back ends of one node. It is the same code
// as between nodes, without the wire; and as over a wire, who asks does not wait for the answer when its context ends: a
// call may hang with the target's back end, and the source is not to hang with it.
type local struct {
	Peer
	target *Target
}

func (l *local) Prepare(ctx context.Context, r PrepareRequest) (PrepareReply, error) {
	return apart(ctx, l.target, func() (PrepareReply, error) { return l.Peer.Prepare(ctx, r) })
}
func (l *local) Digests(ctx context.Context, r DigestsRequest) (DigestsReply, error) {
	return apart(ctx, l.target, func() (DigestsReply, error) { return l.Peer.Digests(ctx, r) })
}
func (l *local) Ready(ctx context.Context, r ReadyRequest) (ReadyReply, error) {
	return apart(ctx, l.target, func() (ReadyReply, error) { return l.Peer.Ready(ctx, r) })
}
func (l *local) Commit(ctx context.Context, t Token) error { return l.tell(ctx, t, l.Peer.Commit) }
func (l *local) UpdateMigrated(ctx context.Context, t Token) error {
	return l.tell(ctx, t, l.Peer.UpdateMigrated)
}
func (l *local) Abort(ctx context.Context, t Token) error  { return l.tell(ctx, t, l.Peer.Abort) }
func (l *local) Forget(ctx context.Context, t Token) error { return l.tell(ctx, t, l.Peer.Forget) }

// tell is apart for a call without a reply.
func (l *local) tell(ctx context.Context, t Token, do func(context.Context, Token) error) error {
	_, err := apart(ctx, l.target, func() (struct{}, error) { return struct{}{}, do(ctx, t) })
	return err
}

// apart is what do answers, or the error of ctx as soon as that ends. Then do goes on, as the handler of a peer's call
// does, and it is the target that waits for it.
func apart[Reply any](ctx context.Context, t *Target, do func() (Reply, error)) (none Reply, err error) {
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	type answer struct {
		reply Reply
		err   error
	}
	answered := make(chan answer, 1)
	err = t.goes(func() {
		reply, err := do()
		answered <- answer{reply, err}
	})
	if err != nil {
		return none, err
	}
	select {
	case a := <-answered:
		return a.reply, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
