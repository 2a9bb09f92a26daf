package transfer

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzRunJSON: what is accepted is valid, and survives the way out and in again.
func FuzzRunJSON(f *testing.F) {
	f.Add([]byte(`{"first":0,"count":5,"zero":true}`))
	f.Add([]byte(`{"first":5,"count":2,"digests":["00112233445566778899aabbccddeeff"]}`))
	f.Add([]byte(`{"first":1,"count":2,"digests":["00112233445566778899aabbccddeeff","00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]}`))
	f.Add([]byte(`{"first":-1,"count":9223372036854775807,"digests":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Run
		if json.Unmarshal(text, &r) != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again Run
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if len(r.Digests) == 0 {
			r.Digests = nil
		}
		if !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}
