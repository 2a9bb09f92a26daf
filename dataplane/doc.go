// Package dataplane is the vocabulary of the data path: a Volume is what a Driver keeps in a back end, a Device is a
// Volume opened, an Extent is a run of its bytes. It imports the standard library only, so that everything above can
// speak it.
//
// Sizes and offsets are bytes in int64. Every type says in its comment what may be called at the same time, what may be
// repeated, which errors come out, and who closes.
package dataplane
