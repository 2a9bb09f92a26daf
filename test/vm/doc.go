// Package vm holds the tests that need a kernel of their own: `make test-vm` makes a guest with Debian's kernel and systemd
// (build-guest), boots it under QEMU (run), and runs this package's tests in it. On the machine itself they are skipped.
package vm
