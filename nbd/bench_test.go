package nbd

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// benchmark runs requests of several lengths over a unix socket to a device in memory, as many at a time as the client
// allows. GOMAXPROCS callers by -cpu, times 16.
func benchmark(b *testing.B, move func(d *Device, p []byte, off int64) (int, error)) {
	const size = 64 << 20
	_, o := serveOne(b, newBenchMemory(size))
	for _, connections := range []int{1, 4} {
		for _, length := range []int{4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%dKiB/%d", length>>10, connections), func(b *testing.B) {
				o.Connections = connections
				d := dial(b, o)
				var next atomic.Int64
				b.SetBytes(int64(length))
				b.SetParallelism(16)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					p := make([]byte, length)
					for pb.Next() {
						if _, err := move(d, p, next.Add(int64(length))%(size-int64(length))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// unlocked is memory without a lock around copying, for measuring what is around it.
type unlocked struct{ *memory }

func newBenchMemory(size int) unlocked { return unlocked{newMemory(size)} }

func (u unlocked) ReadAt(p []byte, off int64) (int, error)  { return copy(p, u.data[off:]), nil }
func (u unlocked) WriteAt(p []byte, off int64) (int, error) { return copy(u.data[off:], p), nil }

func BenchmarkRead(b *testing.B)  { benchmark(b, (*Device).ReadAt) }
func BenchmarkWrite(b *testing.B) { benchmark(b, (*Device).WriteAt) }
