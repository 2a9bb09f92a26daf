package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cvold/cvold/client"
)

const (
	// maxBody bounds a request's body: the largest that makes sense, a volume with much metadata, has a few kilobytes.
	maxBody = 1 << 20
	// bodyTimeout is how long the client may take to send its body once the header is there.
	bodyTimeout = 30 * time.Second
	// maxText is the longest name, description, host, key or value in characters, as in Cinder's schemas.
	maxText = 255
	// maxMetadata is the largest number of metadata items of a volume: Cinder's default quota (metadata_items).
	maxMetadata = 128
	// maxShown is how much of a wrong value is repeated in the sentence about it, in bytes.
	maxShown = 64
)

// decoder takes the value of one key.
type decoder func(raw json.RawMessage) error

// fields are the keys that an object may have; each at most once, in any order. Cinder's "additionalProperties: False".
type fields map[string]decoder

// readBody reads the whole body, within its limits of size and time, once.
func (x *exchange) readBody() ([]byte, error) {
	if x.body != nil {
		return x.body, nil
	}
	if kind := x.r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return nil, badRequest("Unsupported Content-Type %s: the body must be application/json", show([]byte(kind)))
		}
	}
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // an answer to a peer or a test has none
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxBody))
	if err != nil {
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			return nil, err
		}
		return nil, badRequest("the body was not received whole: %v", err)
	}
	_ = rc.SetReadDeadline(time.Time{})
	x.body = body
	return body, nil
}

// read decodes the body, which is one JSON object of f.
func (x *exchange) read(f fields) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	return decodeBody(body, f)
}

// onlyFlag is the one query option that the request may have, a boolean; false without it.
func (x *exchange) onlyFlag(name string) (value bool, err error) {
	for key, values := range x.r.URL.Query() {
		if key != name {
			return false, badRequest("Invalid options %s are found in the query.", show([]byte(key)))
		}
		if value, err = client.ParseBool(values[len(values)-1]); err != nil {
			return false, badRequest("Invalid value for %s: %v", name, err)
		}
	}
	return value, nil
}

// noBody refuses a body where there is nothing to say: an empty object is let through.
func (x *exchange) noBody() error {
	body, err := x.readBody()
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	return decodeBody(body, fields{})
}

func decodeBody(body []byte, f fields) error {
	if !json.Valid(body) || !utf8.Valid(body) {
		return badRequest("Malformed request body: it is not one JSON object")
	}
	return object("the body", f)(body)
}

// object decodes an object with the keys of f: exactly those letters, unlike encoding/json, and none twice.
func object(name string, f fields) decoder {
	return func(raw json.RawMessage) error {
		d := json.NewDecoder(bytes.NewReader(raw))
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return invalid(name, raw, "It must be an object")
		}
		seen := map[string]bool{}
		for d.More() {
			key, value, err := member(d)
			if err != nil {
				return badRequest("Malformed request body: %v", err)
			}
			decode, ok := f[key]
			switch {
			case !ok:
				return badRequest("Invalid input for field/attribute %s. Additional properties are not allowed ('%s' was unexpected)",
					name, show([]byte(key)))
			case seen[key]:
				return badRequest("Invalid input for field/attribute %s. '%s' is there twice", name, key)
			}
			seen[key] = true
			if err := decode(value); err != nil {
				return err
			}
		}
		return nil
	}
}

// member reads one key and its value.
func member(d *json.Decoder) (key string, value json.RawMessage, err error) {
	t, err := d.Token()
	if err != nil {
		return "", nil, err
	}
	key, _ = t.(string)
	return key, value, d.Decode(&value)
}

// invalid is Cinder's sentence for a wrong value (api/validation/validators.py).
func invalid(name string, raw []byte, why string) error {
	return badRequest("Invalid input for field/attribute %s. Value: %s. %s", name, show(raw), why)
}

// show is the beginning of something from outside, fit for a sentence.
func show(raw []byte) string {
	s := strings.ToValidUTF8(string(raw), "\uFFFD")
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func isNull(raw []byte) bool { return bytes.Equal(raw, []byte("null")) }

// text decodes a string of at most maxText characters; null leaves p as it is.
func text(name string, p *string) decoder {
	return func(raw json.RawMessage) error {
		if isNull(raw) {
			return nil
		}
		var s string
		if json.Unmarshal(raw, &s) != nil || utf8.RuneCountInString(s) > maxText {
			return invalid(name, raw, fmt.Sprintf("It must be a string of at most %d characters", maxText))
		}
		*p = s
		return nil
	}
}

// value decodes into p whatever its type decodes; must says what it takes.
func value(name string, p any, must string) decoder {
	return func(raw json.RawMessage) error {
		if err := json.Unmarshal(raw, p); err != nil {
			return invalid(name, raw, must)
		}
		return nil
	}
}

// flag decodes a boolean, or the strings that Cinder takes for one; p unmarshals itself. null is none.
func flag(name string, p json.Unmarshaler) decoder {
	return func(raw json.RawMessage) error {
		if isNull(raw) || p.UnmarshalJSON(raw) != nil {
			return invalid(name, raw, "It must be true or false")
		}
		return nil
	}
}

// metadata decodes an object of strings; null is none.
func metadata(name string, p *map[string]string) decoder {
	return func(raw json.RawMessage) error {
		var m map[string]*string
		if err := json.Unmarshal(raw, &m); err != nil || len(m) > maxMetadata {
			return invalid(name, raw, fmt.Sprintf("It must be an object of at most %d strings", maxMetadata))
		}
		out := make(map[string]string, len(m))
		for k, v := range m {
			if k == "" || v == nil || utf8.RuneCountInString(k) > maxText || utf8.RuneCountInString(*v) > maxText {
				return invalid(name, raw, fmt.Sprintf("Keys are 1 to %d characters, values strings of at most %d", maxText, maxText))
			}
			out[k] = *v
		}
		*p = out
		return nil
	}
}

// notYet takes what stock clients send as null or false and cvold does not have.
func notYet(name string) decoder {
	return func(raw json.RawMessage) error {
		switch string(raw) {
		case "null", "false", `""`, "[]", "{}":
			return nil
		}
		return invalid(name, raw, "cvold has none of that: leave it out")
	}
}
