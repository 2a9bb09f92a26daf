package faulty

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// Op is a set of a device's calls.
type Op uint16

// The calls of a device, to be joined with |.
const (
	Read Op = 1 << iota
	Write
	Zero
	Discard
	Sync
	Size
	Extents
	Close
)

// String names the set's calls.
func (o Op) String() string {
	s := ""
	for i, name := range [...]string{"read", "write", "zero", "discard", "sync", "size", "extents", "close"} {
		if o&(1<<i) != 0 {
			s += "|" + name
		}
	}
	return s[min(1, len(s)):]
}

// Rule selects calls and says what happens to them.
type Rule struct {
	// Ops are the calls that count.
	Ops Op
	// Offset and Length narrow reads, writes, zeroes, discards and extents to those that touch the range, in bytes;
	// Length 0 is everything.
	Offset, Length int64
	// Nth strikes the Nth call that counts, from 1; 0 strikes each of them.
	Nth int
	// Probability strikes a call that Nth lets through, by the plan's seed; 0 is always.
	Probability float64
	// Times is how often the rule strikes at most; 0 is without end.
	Times int
	// Action is what happens.
	Action Action
}

// Plan is a list of rules; the zero value does nothing. It may be shared by devices and changed while they are used.
type Plan struct {
	mu    sync.Mutex
	seed  uint64
	rng   *rand.Rand
	rules []*ruleState
}

type ruleState struct {
	Rule
	seen, struck int
}

// NewPlan makes a plan whose chances all come from seed: print it, and the same calls in the same order meet the same
// faults again.
func NewPlan(seed uint64) *Plan {
	return &Plan{seed: seed, rng: rand.New(rand.NewPCG(seed, seed))}
}

// Add appends rules and returns the plan.
func (p *Plan) Add(rules ...Rule) *Plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rules {
		p.rules = append(p.rules, &ruleState{Rule: r})
	}
	return p
}

// Clear drops all rules. Calls already waiting go on waiting.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Struck is how many times rules have struck so far.
func (p *Plan) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.rules {
		n += r.struck
	}
	return n
}

// String tells the seed, for the log of a test.
func (p *Plan) String() string { return fmt.Sprintf("faulty.NewPlan(%d)", p.seed) }

// strike returns what happens to one call: all the waits, and the first action of another kind.
func (p *Plan) strike(op Op, off, n int64) (waits []Action, action Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if !r.counts(op, off, n) {
			continue
		}
		if r.seen++; !p.strikes(r) {
			continue
		}
		if r.Action.kind == delays {
			r.struck++
			waits = append(waits, r.Action)
		} else if action.kind == nothing {
			r.struck++
			action = r.Action
			if action.length == 0 {
				action.offset, action.length = r.Offset, r.Length
			}
		}
	}
	return waits, action
}

func (p *Plan) strikes(r *ruleState) bool {
	if r.Nth > 0 && r.seen != r.Nth || r.Times > 0 && r.struck >= r.Times {
		return false
	}
	return r.Probability == 0 || p.random().Float64() < r.Probability
}

func (p *Plan) random() *rand.Rand {
	if p.rng == nil {
		p.rng = rand.New(rand.NewPCG(p.seed, p.seed))
	}
	return p.rng
}

// intn is a number from 0 to n-1 by the plan's seed.
func (p *Plan) intn(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random().IntN(n)
}

// fill makes p random bytes, none of them zero.
func (p *Plan) fill(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range b {
		b[i] = byte(1 + p.random().IntN(255))
	}
}

func (p *Plan) has(k kind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.Action.kind == k {
			return true
		}
	}
	return false
}

func (r *ruleState) counts(op Op, off, n int64) bool {
	if r.Ops&op == 0 {
		return false
	}
	if r.Length == 0 || op&(Sync|Size|Close) != 0 {
		return true
	}
	return off < r.Offset+r.Length && r.Offset < off+n
}

// Action is one kind of fault. The functions below make them; one that does not fit a call (a lost read) lets it through.
type Action struct {
	kind           kind
	err            error
	until          <-chan struct{}
	by             int64
	offset, length int64
}

type kind uint8

const (
	nothing kind = iota
	fails
	delays
	tears
	loses
	misdirects
	duplicates
	comesLate
	readsStale
	corrupts
	garbles
	falseHole
)

// Fail answers err, wrapped, and touches nothing; nil is dataplane.ErrIO.
func Fail(err error) Action {
	if err == nil {
		err = dataplane.ErrIO
	}
	return Action{kind: fails, err: err}
}

// Delay lets the call wait until the channel is closed, or the device, or the context of an Extents call ends.
func Delay(until <-chan struct{}) Action { return Action{kind: delays, until: until} }

// Tear writes only a prefix of whole sectors, shorter than the write, and answers err; nil answers success.
func Tear(err error) Action { return Action{kind: tears, err: err} }

// Lose answers success to a write, zero or discard and does nothing.
func Lose() Action { return Action{kind: loses} }

// Misdirect writes by bytes further on (or back) than asked, as far as the device reaches.
func Misdirect(by int64) Action { return Action{kind: misdirects, by: by} }

// Duplicate writes, and writes the same again after the next changing call.
func Duplicate() Action { return Action{kind: duplicates} }

// Late answers success to a write and writes only after the next changing call, or at Close.
func Late() Action { return Action{kind: comesLate} }

// Stale answers a read with what each sector held before its last write. Rules with it must be in the plan before the
// writes are made.
func Stale() Action { return Action{kind: readsStale} }

// Corrupt flips one bit in a byte that is read or written.
func Corrupt() Action { return Action{kind: corrupts} }

// Garbage leaves bytes other than zeroes where a ZeroAt (or Discard) answers success.
func Garbage() Action { return Action{kind: garbles} }

// FalseHole reports the range of its rule (or everything) as zeroes, whatever is there.
func FalseHole() Action { return Action{kind: falseHole} }
