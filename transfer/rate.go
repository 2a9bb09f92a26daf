package transfer

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// Limiter slows a copy down. WaitN returns when n bytes may move, or with an error, and then the copy ends with it. It
// is called before the source's bytes are read, by several goroutines, with n up to the chunk size. golang.org/x/time/rate's
// Limiter satisfies it if its burst is at least a chunk; NewRate has no such condition.
type Limiter interface {
	WaitN(ctx context.Context, n int) error
}

// rateBurst in bytes is what may move at once after a pause: a chunk, so that the rate is kept from the first second.
const rateBurst = DefaultChunkSize

// NewRate limits to a fixed rate, at least 1 byte a second; 0 or less is nil, no limit. A request for more than a burst
// waits in pieces, so any rate works with any chunk size.
func NewRate(bytesPerSecond int64) Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &fixedRate{limit: rate.NewLimiter(rate.Limit(bytesPerSecond), rateBurst)}
}

type fixedRate struct{ limit *rate.Limiter }

func (r *fixedRate) WaitN(ctx context.Context, n int) error {
	for n > 0 {
		piece := min(n, rateBurst)
		if err := r.wait(ctx, piece); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// wait is rate.Limiter.Wait, but a context that ends before the turn comes is waited out and answered with its own
// error, so that callers see one kind of cancellation.
func (r *fixedRate) wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	turn := r.limit.ReserveN(time.Now(), n)
	if !turn.OK() {
		return fmt.Errorf("reserve %d bytes: %w", n, ErrInvalid)
	}
	timer := time.NewTimer(turn.Delay())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return ctx.Err()
	}
}
