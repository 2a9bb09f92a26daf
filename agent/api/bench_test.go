package api

import (
	"fmt"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
)

// thousand is a rig with 1,000 volumes, and their ids.
func thousand(b *testing.B) (*rig, []string) {
	r := newRig(b)
	records, ids := make([]any, 1000), make([]string, 1000)
	for i := range records {
		v := newVolume(func(v *catalog.Volume) {
			v.DisplayName, v.Metadata = fmt.Sprint("v", i), map[string]string{"a": "b"}
		})
		records[i], ids[i] = v, v.ID
	}
	r.put(records...)
	b.ReportAllocs()
	return r, ids
}

func BenchmarkListThousand(b *testing.B) {
	r, _ := thousand(b)
	for b.Loop() {
		r.want(200, "GET /v3/volumes/detail", "", nil)
	}
}

func BenchmarkShowOfThousand(b *testing.B) {
	r, ids := thousand(b)
	i := 0
	for b.Loop() {
		r.want(200, "GET /v3/volumes/"+ids[i%len(ids)], "", nil)
		i++
	}
}
