// Package volume keeps the volumes of one agent: their records, who has them open, and their NBD exports. It is the one
// opener: nothing else in the daemon calls Driver.Open, so that what it says of a volume's users is the truth.
//
// Every change writes what is about to be done, does it, and writes how it went:
//
//	Create:   creating ──Driver.Create──▶ available        or error, with status_reason
//	Delete:   available, error, … ─▶ deleting ──Driver.Delete──▶ no record      or error_deleting, with status_reason
//	Export:   attachment, in-use ──Driver.Open, Server.Add──▶ served
//	Unexport: served ──Server.Remove, Close──▶ no attachment, available if it was the last
//
// Start takes up what a crash left: creating and deleting are done again, attachments are served again. Each step may be
// repeated, so that a kill between any two of them leaves nothing over and loses nothing. An error while the agent stops
// is no verdict: the record stays as it is for the next Start.
//
// No record is kept in memory. A volume whose record has a MigrationID belongs to that migration: its status is never
// touched here, and everyone else is refused.
package volume
