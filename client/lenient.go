package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bool is a boolean as Cinder's API takes it: a JSON boolean, or one of the strings of
// cinder/api/validation/parameter_types.py, among them the "True" and "False" that python-cinderclient sends. It is
// written as a JSON boolean. null is not a Bool.
type Bool bool

var boolWords = map[string]Bool{
	"1": true, "t": true, "true": true, "on": true, "y": true, "yes": true,
	"0": false, "f": false, "false": false, "off": false, "n": false, "no": false,
}

// ParseBool reads one of the words that Bool accepts, in any case.
func ParseBool(word string) (bool, error) {
	b, ok := boolWords[strings.ToLower(word)]
	if !ok {
		return false, fmt.Errorf("%q is neither True nor False", word)
	}
	return bool(b), nil
}

// UnmarshalJSON reads a boolean or one of its words.
func (b *Bool) UnmarshalJSON(p []byte) error {
	var word string
	if json.Unmarshal(p, &word) != nil || bytes.Equal(p, []byte("null")) {
		word = string(p)
	}
	value, err := ParseBool(word)
	if err != nil {
		return err
	}
	*b = Bool(value)
	return nil
}

// GiB is a size as Cinder's API takes it: a whole number of GiB, as a JSON number or as a string of digits. It is
// written as a number.
type GiB int64

// UnmarshalJSON reads a number or a string of digits; null leaves 0.
func (g *GiB) UnmarshalJSON(p []byte) error {
	if bytes.Equal(p, []byte("null")) {
		return nil
	}
	var word string
	if json.Unmarshal(p, &word) != nil {
		word = string(p)
	}
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("size %s is not a whole number of GiB", p)
	}
	*g = GiB(n)
	return nil
}

// bytesPerGiB is the unit of Cinder's sizes.
const bytesPerGiB = 1 << 30

// ToGiB is bytes in GiB, rounded up, as Cinder's size says it.
func ToGiB(size int64) GiB {
	n := size / bytesPerGiB
	if size%bytesPerGiB > 0 {
		n++
	}
	return GiB(n)
}

// Bytes is the size in bytes; false if int64 cannot hold it.
func (g GiB) Bytes() (int64, bool) {
	if g < 0 || g > (1<<63-1)/bytesPerGiB {
		return 0, false
	}
	return int64(g) * bytesPerGiB, true
}

// cinderTime is how Cinder writes a time: UTC, microseconds, no zone.
const cinderTime = "2006-01-02T15:04:05.000000"

// Time is a time as Cinder writes it: UTC without a zone; the zero Time is null.
type Time struct{ time.Time }

// MarshalJSON writes Cinder's form.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.append(make([]byte, 0, len(cinderTime)+2)), nil
}

func (t Time) append(b []byte) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return t.UTC().AppendFormat(b, `"`+cinderTime+`"`)
}

// UnmarshalJSON reads Cinder's form, with any number of decimals, or RFC 3339.
func (t *Time) UnmarshalJSON(p []byte) error {
	var word *string
	if err := json.Unmarshal(p, &word); err != nil {
		return err
	}
	if word == nil {
		*t = Time{}
		return nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", time.RFC3339} {
		if parsed, err := time.Parse(layout, *word); err == nil {
			*t = Time{parsed.UTC()}
			return nil
		}
	}
	return fmt.Errorf("%q is not a time", *word)
}
