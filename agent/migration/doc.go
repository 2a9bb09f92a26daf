// Package migration moves volumes between back ends and nodes, with the meaning of Cinder's migrate and so that at most
// one agent ever serves a volume.
//
// A migration has two halves with a record each. The source's half is the Engine; its record is catalog.Migration:
//
//	accepted ─▶ preparing ─▶ copying ─▶ readying ══P2══▶ committing ─▶ disposing ─▶ renaming ─▶ forgetting ─▶ succeeded
//	                ▲           │           │
//	                └───────────┴───────────┘  link lost, target restarted, checkpoint void: attempt + 1
//	accepted, preparing, copying, readying ──abort, or failed for good──▶ aborting ─▶ failed
//
// The target's half is the Target; its record is catalog.Guest:
//
//	preparing ─▶ prepared ─▶ ready ─▶ committed ─▶ (record gone: Forget)
//	    ▲            │ ▲        │
//	    └─attempt+1──┘ └────────┘ attempt+1
//	preparing, prepared, ready, and an id never heard of ──Abort──▶ aborting ─▶ aborted ─▶ (record gone: Forget)
//	ready ──the source's store is not the one that asked──▶ in-doubt ──resolve──▶ committed or aborting
//
// P2 is the point of no return: one transaction in the source's catalog. Before it the volume is the source's and the
// migration can be aborted; after it the volume is the target's and the steps that are left are repeated until they
// succeed. A target in ready does nothing of its own accord: it asks Outcome.
//
// Every step may be run again from its beginning; after a crash the records are read and the step of each state is
// simply run. The table of steps, with everything each one touches, is in steps.go.
package migration
