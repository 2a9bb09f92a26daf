// Package metrics names what the parts of the agent count, for Prometheus. One file has one subsystem: it reads the
// part's Stats at scrape time and turns the numbers into metrics; nothing is counted here, and no part knows of it. What
// each subsystem's reading came to is a metric itself, cvold_scrape_success.
//
// Labels have few values: states, kinds, back ends. No id of a volume, migration or export is ever one.
package metrics
