package nbd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// contextSession is our own metadata namespace ("Metadata querying", x-*). A client that lists it says who it is, as
// x-cvold-session:KEY/GENERATION, before it opens the export. The server then ends all connections of KEY with a lower
// generation to that export, waits until what they asked for is over, and answers x-cvold-session:INCARNATION, which
// is another one whenever the export was added anew. So a client whose connections broke knows that none of its old
// requests can come late, and whether its writes are still where they were.
const contextSession = "x-cvold-session:"

const (
	keyLength        = 32 // hexadecimal digits, of keys and incarnations
	generationDigits = 18
)

func newToken() string {
	b := make([]byte, keyLength/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// identity is who a client says that it is; the zero value says nothing.
type identity struct {
	key        string
	generation uint64
}

// query is how an identity is told.
func (i identity) query() string {
	return contextSession + i.key + "/" + strconv.FormatUint(i.generation, 10)
}

// parseIdentity reports false when the query is not one of contextSession.
func parseIdentity(query string) (identity, bool) {
	text, ok := strings.CutPrefix(query, contextSession)
	if !ok {
		return identity{}, false
	}
	key, number, ok := strings.Cut(text, "/")
	if _, err := hex.DecodeString(key); !ok || err != nil || len(key) != keyLength || len(number) > generationDigits {
		return identity{}, false
	}
	generation, err := strconv.ParseUint(number, 10, 64)
	return identity{key, generation}, err == nil
}

// identityOf is the identity among queries, if there is one.
func identityOf(queries []string) (identity, bool) {
	for _, q := range queries {
		if i, ok := parseIdentity(q); ok {
			return i, true
		}
	}
	return identity{}, false
}

// supersede ends the connections of the same client with a lower generation, and returns when nothing of them is in flight.
func (x *served) supersede(ctx context.Context, who identity) error {
	var old []*transmission
	x.each(func(t *transmission) {
		if t.who.key == who.key && t.who.generation < who.generation {
			old = append(old, t)
		}
	})
	for _, t := range old {
		t.cut()
	}
	for _, t := range old {
		select {
		case <-t.over:
		case <-ctx.Done():
			return fmt.Errorf("an older connection of the client still has requests in flight: %w", context.Cause(ctx))
		}
	}
	return nil
}
