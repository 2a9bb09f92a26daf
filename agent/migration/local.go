package migration

import "context"

// local is this agent as its own peer: the target of a migration between two back ends of one node. It is the same code
// as between nodes, without the wire.
type local struct {
	engine *Engine
	target *Target
}

func (l *local) Describe(ctx context.Context, r DescribeRequest) (Description, error) {
	return l.target.Describe(ctx, r)
}
func (l *local) Prepare(ctx context.Context, r PrepareRequest) (PrepareReply, error) {
	return l.target.Prepare(ctx, r)
}
func (l *local) Digests(ctx context.Context, r DigestsRequest) (DigestsReply, error) {
	return l.target.Digests(ctx, r)
}
func (l *local) Ready(ctx context.Context, r ReadyRequest) (ReadyReply, error) {
	return l.target.Ready(ctx, r)
}
func (l *local) Commit(ctx context.Context, t Token) error { return l.target.Commit(ctx, t) }
func (l *local) UpdateMigrated(ctx context.Context, t Token) error {
	return l.target.UpdateMigrated(ctx, t)
}
func (l *local) Abort(ctx context.Context, t Token) error  { return l.target.Abort(ctx, t) }
func (l *local) Forget(ctx context.Context, t Token) error { return l.target.Forget(ctx, t) }
func (l *local) Outcome(ctx context.Context, t Token) (OutcomeReply, error) {
	return l.engine.Outcome(ctx, t)
}

// Served is both halves of this agent as its peers call them. The transport sets Token.Node before it calls.
func Served(e *Engine, t *Target) Peer { return &local{engine: e, target: t} }
