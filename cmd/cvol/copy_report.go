package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/cvold/cvold/transfer"
)

// copyResult is what a copy came to; the fields are those of --json.
type copyResult struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// SizeBytes of the source; of them SentBytes were written (some perhaps twice), SkippedBytes were there already,
	// ZeroBytes are zeroes, and ResumedBytes were verified by an earlier run.
	SizeBytes    int64 `json:"size_bytes"`
	SentBytes    int64 `json:"sent_bytes"`
	SkippedBytes int64 `json:"skipped_bytes"`
	ZeroBytes    int64 `json:"zero_bytes"`
	ResumedBytes int64 `json:"resumed_bytes"`
	// Mismatches counts chunks that were read back wrong and copied again, Retries requests that failed and were made again.
	Mismatches int64 `json:"mismatches"`
	Retries    int64 `json:"retries"`
	// UnreadableBytes of the source are zeroes on the target.
	UnreadableBytes int64 `json:"unreadable_bytes"`
	// Verify is --verify; Class what reading back proves, empty if nothing was read back.
	Verify    string  `json:"verify"`
	Class     string  `json:"class,omitempty"`
	Algorithm string  `json:"algorithm,omitempty"`
	Root      string  `json:"root,omitempty"`
	Seconds   float64 `json:"seconds"`
}

// result sums up, and writes the manifest.
func (r *copyRun) result() (copyResult, error) {
	s := r.progress.Snapshot()
	result := copyResult{
		Source: r.sourceName, Target: r.targetName, SizeBytes: r.config.VolumeSize,
		SentBytes: s.SentBytes, SkippedBytes: s.SkippedBytes, ZeroBytes: s.ZeroBytes, ResumedBytes: s.ResumedBytes,
		Mismatches: s.Mismatches, Retries: s.Retries, Verify: r.verify,
	}
	class := transfer.Cached
	if r.verify == verifyReadback {
		class = r.ends.class
		result.Class = class.String()
	}
	if r.config.Unreadable != nil {
		result.UnreadableBytes = r.config.Unreadable.Bytes()
	}
	if isStream(r.sourceName) {
		result.ZeroBytes = result.SizeBytes - result.SentBytes
	}
	if r.checkpoint != nil && !r.config.NoDigests && result.UnreadableBytes == 0 {
		root, err := r.root(class)
		if err != nil {
			return result, err
		}
		result.Root, result.Algorithm = root.String(), r.config.Algorithm.String()
	}
	result.Seconds = time.Since(r.began).Seconds()
	return result, nil
}

func (r *copyRun) root(class transfer.Class) (transfer.Root, error) {
	if r.manifest == "" {
		return r.checkpoint.Root()
	}
	return transfer.WriteManifest(r.manifest, r.checkpoint, class, "", time.Now())
}

// report prints the result.
func (p *copyJob) report(r copyResult) error {
	if p.cli.json {
		return p.cli.printJSON(r)
	}
	elapsed := time.Duration(r.Seconds * float64(time.Second))
	words := []string{"size " + size(r.SizeBytes)}
	add := func(name string, bytes int64) {
		if bytes > 0 {
			words = append(words, name+" "+size(bytes))
		}
	}
	add("moved", r.SentBytes)
	add("unchanged", r.SkippedBytes)
	add("holes", r.ZeroBytes)
	add("resumed", r.ResumedBytes)
	add("unreadable", r.UnreadableBytes)
	if r.Mismatches > 0 {
		words = append(words, fmt.Sprintf("chunks copied again %d", r.Mismatches))
	}
	words = append(words, "time "+took(elapsed))
	if r.Seconds > 0 && r.SentBytes > 0 {
		words = append(words, "rate "+rate(float64(r.SentBytes)/r.Seconds))
	}
	if r.Class != "" {
		words = append(words, "class "+r.Class)
	}
	if r.Root != "" {
		words = append(words, "root "+r.Root)
	}
	source, target := r.Source, strings.TrimSuffix(r.Target, ":")
	if isStream(source) {
		source = "standard input"
	}
	p.cli.printf("%s is copied to %s: %s", source, target, strings.Join(words, ", "))
	return nil
}
