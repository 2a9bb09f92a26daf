// Package tidy holds the tests about the sources themselves: which package may import which, how long a function may be,
// which words don't stand in the tree, and that the documents point at what exists. What matters about the sources is a
// test here, not a matter of memory. Each rule is a function from sources to complaints, with a test that makes it complain.
package tidy
