// Package transfer copies one device to another so that the result can be trusted: in chunks, in parallel, without
// reading or sending holes, verified by reading back, resumable, throttled, with progress.
//
// There is one loop: for each chunk not verified, copy it. A first copy, a retry, a resume after a crash and a
// re-synchronisation differ only in what the checkpoint says is verified already.
//
//	source extents ─▶ plan ─▶ workers: read ─▶ zero? ─▶ digest ─▶ target WriteAt
//	                            (a batch is done)      └─▶ runs of zeroes ─▶ target ZeroAt
//	                          ─▶ flush target ─▶ Verifier: digests equal? ─▶ checkpoint ─▶ progress
//	                                             └ differ: copy again, a bounded number of times
//
// A chunk is verified when the target was flushed after the chunk's write was answered, the flush was answered without
// error, and the target's medium then gave back bytes with the digest that the source's bytes had. Only then is it
// written to the checkpoint, and only when the checkpoint is durable does progress count it.
//
// The formats of checkpoint and manifest are described in docs/STORAGE.md.
package transfer
