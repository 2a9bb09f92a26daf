// Package mainthread keeps a process's main thread out of calls that may hang in the kernel. The kernel gives a process's signal to
// one thread, and to the main thread first; in a call that cannot be interrupted it does not take it, and no other one is
// asked: SIGTERM would come when the disk answers. Only programs import this package, for it changes how they begin.
package mainthread

import "runtime"

// The main goroutine stays on the main thread only if that is said before main.main begins.
func init() { runtime.LockOSThread() }

// Run is run's exit code. run, and what it starts, is never on the main thread, which only waits for it. To be called by
// main.main.
func Run(run func() int) int {
	code := make(chan int)
	go func() { code <- run() }()
	return <-code
}
