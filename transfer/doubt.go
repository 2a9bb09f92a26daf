package transfer

import (
	"context"
	"errors"

	"github.com/cvold/cvold/dataplane"
)

// copyAll copies, and then doubts a target that gave back wrong bytes: a write that does not arrive where it should may have
// arrived somewhere else, over a chunk that was verified before. What the checkpoint holds is read back again; without one
// both sides are compared. It goes on until a round finds nothing, maxRecopies times at most.
func copyAll(ctx context.Context, source, target dataplane.Device, config Config) error {
	for round := 0; ; round++ {
		differed, err := copyOnce(ctx, source, target, config, round)
		if differed == nil || err != nil && !errors.Is(err, ErrUnreadable) {
			return err
		}
		if config.Checkpoint != nil {
			again, _, recheckErr := recheckAll(ctx, config.Verifier, config.Checkpoint, config.Progress)
			if recheckErr != nil {
				return recheckErr
			}
			if again == nil {
				return err
			}
			differed = again
		}
		if round == maxRecopies {
			return differed
		}
		if config.Unread, err = unreadAfter(config); err != nil {
			return err
		}
		// What was believed of such a target is not believed any more.
		config.Since, config.TargetIsZero, config.Compare, config.doubted = nil, false, config.Checkpoint == nil, true
	}
}

// copyOnce is a round. differed is a chunk that was written and read back wrong, if there was one.
func copyOnce(ctx context.Context, source, target dataplane.Device, config Config, round int) (differed *MismatchError, err error) {
	c, err := newCopier(source, target, config)
	if err != nil {
		return nil, err
	}
	if err := c.begin(round); err != nil {
		return nil, err
	}
	err = c.run(ctx)
	return c.differed, err
}

// unreadAfter is what the next round begins with: it must not lose what this one has read.
func unreadAfter(config Config) (*ErrorMap, error) {
	if config.Unreadable == nil || config.Checkpoint == nil {
		return config.Unread, nil
	}
	return Unfinished(config.Checkpoint, config.Unread, config.Unreadable)
}
