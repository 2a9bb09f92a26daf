package transfer

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// fault is a row of the matrix.
type fault struct {
	phase, name string
	strike      func(*rig)
	outcomes    [4]string // one for each of kinds
	astray      bool      // it may hit a chunk that was verified before
}

// The places of faults.
const (
	onData = iota
	onZero
	onKept
)

// on adds a rule for one chunk to a device's plan.
func on(device string, ops faulty.Op, place, times int, action faulty.Action) func(*rig) {
	return func(r *rig) {
		chunk := [...]int64{onData: r.data, onZero: r.zero, onKept: r.kept}[place]
		r.plans[device].Add(faulty.Rule{
			Ops: ops, Offset: chunk * MinChunkSize, Length: MinChunkSize, Times: times, Action: action,
		})
	}
}

// each is a row with one outcome for all kinds of copies.
func each(outcome string) [4]string { return [4]string{outcome, outcome, outcome, outcome} }

const (
	once  = 1
	often = 0
)

// faultMatrix is the table in docs/RELIABILITY.md.
var faultMatrix = []fault{
	{phase: "copying", name: "a read of the source fails once", outcomes: each(retried),
		strike: on("source", faulty.Read, onData, once, faulty.Fail(nil))},
	{phase: "copying", name: "reads of the source fail", outcomes: each(failed),
		strike: on("source", faulty.Read, onData, often, faulty.Fail(nil))},
	{phase: "copying", name: "a read of the source gives other bytes", outcomes: [4]string{believed, believed, same, believed},
		strike: on("source", faulty.Read, onData, once, faulty.Corrupt())},
	{phase: "copying", name: "the source calls data a hole", outcomes: each(believed),
		strike: on("source", faulty.Extents, onData, often, faulty.FalseHole())},
	{phase: "copying", name: "the same, with --read-holes", outcomes: each(same),
		strike: func(r *rig) {
			r.config.ReadHoles = true
			on("source", faulty.Extents, onData, often, faulty.FalseHole())(r)
		}},
	{phase: "copying", name: "a write fails once", outcomes: each(retried),
		strike: on("target", faulty.Write, onData, once, faulty.Fail(nil))},
	{phase: "copying", name: "writes fail", outcomes: each(failed),
		strike: on("target", faulty.Write, onData, often, faulty.Fail(nil))},
	{phase: "copying", name: "no space is left", outcomes: each(failed),
		strike: on("target", faulty.Write, onData, once, faulty.Fail(dataplane.ErrNoSpace))},
	{phase: "copying", name: "the connection is lost", outcomes: each(failed),
		strike: on("target", faulty.Write, onData, once, faulty.Fail(dataplane.ErrDisconnected))},
	{phase: "copying", name: "a write hangs and is given up", outcomes: each(failed),
		strike: on("target", faulty.Write, onData, once, faulty.Fail(dataplane.ErrAbandoned))},
	{phase: "copying", name: "a write is lost", outcomes: each(repaired),
		strike: on("target", faulty.Write, onData, once, faulty.Lose())},
	{phase: "copying", name: "writes are lost", outcomes: each(differs),
		strike: on("target", faulty.Write, onData, often, faulty.Lose())},
	{phase: "copying", name: "a write lands elsewhere", outcomes: each(repaired), astray: true,
		strike: on("target", faulty.Write, onData, once, faulty.Misdirect(-5*MinChunkSize))},
	{phase: "copying", name: "writes land elsewhere", outcomes: each(differs), astray: true,
		strike: on("target", faulty.Write, onData, often, faulty.Misdirect(-5*MinChunkSize))},
	{phase: "copying", name: "writes are done twice", outcomes: each(same),
		strike: on("target", faulty.Write, onData, often, faulty.Duplicate())},
	{phase: "copying", name: "a write comes after the read-back", outcomes: each(repaired),
		strike: func(r *rig) { r.corrupt = corruptionOf(r, "late") }},
	{phase: "copying", name: "two writes change places", outcomes: each(repaired), astray: true,
		strike: func(r *rig) { r.corrupt = corruptionOf(r, "swap") }},
	{phase: "copying", name: "a write is torn, and said to be whole", outcomes: each(repaired),
		strike: on("target", faulty.Write, onData, once, faulty.Tear(nil))},
	{phase: "copying", name: "writes are torn, and said to be whole", outcomes: each(differs),
		strike: on("target", faulty.Write, onData, often, faulty.Tear(nil))},
	{phase: "copying", name: "a write is torn and fails", outcomes: each(retried),
		strike: on("target", faulty.Write, onData, once, faulty.Tear(dataplane.ErrIO))},
	{phase: "copying", name: "a bit flips on the way", outcomes: each(repaired),
		strike: on("target", faulty.Write, onData, once, faulty.Corrupt())},
	{phase: "copying", name: "bits flip always", outcomes: each(differs),
		strike: on("target", faulty.Write, onData, often, faulty.Corrupt())},

	{phase: "zeroing", name: "a request for zeroes fails once", outcomes: each(retried),
		strike: on("target", faulty.Zero, onZero, once, faulty.Fail(nil))},
	{phase: "zeroing", name: "requests for zeroes fail", outcomes: each(failed),
		strike: on("target", faulty.Zero, onZero, often, faulty.Fail(nil))},
	{phase: "zeroing", name: "requests for zeroes are lost", outcomes: each(repaired),
		strike: on("target", faulty.Zero, onZero, often, faulty.Lose())},
	{phase: "zeroing", name: "the target calls old data a hole", outcomes: [4]string{same, repaired, repaired, repaired},
		strike: on("target", faulty.Extents, onZero, often, faulty.FalseHole())},
	{phase: "zeroing", name: "garbage where zeroes should be", outcomes: each(repaired),
		strike: on("target", faulty.Zero, onZero, often, faulty.Garbage())},

	{phase: "flushing", name: "a flush fails", outcomes: each(failed),
		strike: func(r *rig) { r.plans["target"].Add(faulty.Rule{Ops: faulty.Sync, Times: 1, Action: faulty.Fail(nil)}) }},
	{phase: "flushing", name: "a flush does nothing and says that all is well", outcomes: each(repaired),
		strike: func(r *rig) {
			r.lies = true
			r.plans["target"].Add(faulty.Rule{Ops: faulty.Sync, Action: faulty.Lose()})
		}},
	{phase: "flushing", name: "flushes do nothing and say that all is well", outcomes: each(differs),
		strike: func(r *rig) { r.plans["target"].Add(faulty.Rule{Ops: faulty.Sync, Action: faulty.Lose()}) }},

	{phase: "reading back", name: "a read of the target fails", outcomes: each(failed),
		strike: on("medium", faulty.Read, onKept, once, faulty.Fail(nil))},
	{phase: "reading back", name: "a read of the target gives other bytes", outcomes: [4]string{repaired, repaired, same, repaired},
		strike: func(r *rig) { r.flips = 1 }},
	{phase: "reading back", name: "reads of the target give other bytes", outcomes: each(differs),
		strike: func(r *rig) { r.flips = -1 }},
	{phase: "reading back", name: "a read of the target gives old bytes", outcomes: each(repaired),
		strike: func(r *rig) { r.keepOld(1) }},
	{phase: "reading back", name: "reads of the target give old bytes", outcomes: each(differs),
		strike: func(r *rig) { r.keepOld(-1) }},
	{phase: "reading back", name: "the target calls data a hole", outcomes: each(same),
		strike: on("medium", faulty.Extents, onKept, often, faulty.FalseHole())},
	{phase: "reading back", name: "the target has changed since it was verified", outcomes: [4]string{nowhere, repaired, same, repaired},
		strike: func(r *rig) { r.target.durable[15*MinChunkSize] ^= 1; r.target.data[15*MinChunkSize] ^= 1 }},

	{phase: "recording", name: "the checkpoint cannot be written", outcomes: each(failed),
		strike: func(r *rig) { r.appendErr = syscall.EIO }},
	{phase: "recording", name: "there is no space for the checkpoint", outcomes: each(failed),
		strike: func(r *rig) { r.appendErr = syscall.ENOSPC }},
}

// TestFaultMatrixIsDocumented: docs/RELIABILITY.md has this table.
func TestFaultMatrixIsDocumented(t *testing.T) {
	var table strings.Builder
	table.WriteString("| phase | fault |")
	for _, kind := range kinds {
		fmt.Fprintf(&table, " %s |", kind.name)
	}
	table.WriteString("\n|---|---|---|---|---|---|\n")
	for _, f := range faultMatrix {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", f.phase, f.name, strings.Join(f.outcomes[:], " | "))
	}
	doc, err := os.ReadFile("../docs/RELIABILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/RELIABILITY.md does not have this table:\n%s", table.String())
	}
}
