package nbd

import (
	"context"
	"encoding/binary"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// selection is what the last NBD_OPT_SET_META_CONTEXT selected, for which export.
type selection struct {
	export     string
	allocation bool
}

// contexts answers NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT ("Metadata querying"). Each of the latter
// undoes the one before, also when it fails.
func (n *negotiation) contexts(ctx context.Context, h protocol.NegotiationOptionHeader) error {
	set := h.ID == optSetMetaContext
	if set {
		n.selected = selection{}
	}
	data, err := n.data(h)
	if data == nil || err != nil {
		return err
	}
	if !n.session.Structured {
		return n.answer(h, repErrInvalid, []byte("structured replies or extended headers come first"))
	}
	export, queries, ok := parseQueries(data)
	if !ok {
		return n.answer(h, repErrInvalid, []byte("lengths in the data do not match"))
	}
	if len(queries) > maxQueries {
		return n.answer(h, repErrTooBig, []byte("too many queries"))
	}
	x, err := n.admitted(h, export)
	if x == nil || err != nil {
		return err
	}
	var replies []byte
	if who, ok := identityOf(queries); ok && !set {
		if err := x.supersede(ctx, who); err != nil {
			return n.answer(h, repErrShutdown, []byte(err.Error()))
		}
		n.session.Key, n.session.Generation = who.key, who.generation
		replies = appendOptionReply(nil, h.ID, repMetaContext, append(make([]byte, 4), contextSession+x.incarnation...))
	}
	if asksForAllocation(queries, set) {
		id := uint32(0) // in lists it is reserved
		if set {
			id = allocationID
			n.selected = selection{export: export, allocation: true}
		}
		name := append(binary.BigEndian.AppendUint32(nil, id), contextAllocation...)
		replies = appendOptionReply(replies, h.ID, repMetaContext, name)
	}
	return n.send(appendOptionReply(replies, h.ID, repAck, nil))
}

// asksForAllocation: a list also knows "base:", and no query at all, as everything ("The base: metadata namespace").
func asksForAllocation(queries []string, set bool) bool {
	for _, q := range queries {
		if q == contextAllocation || q == "base:" && !set {
			return true
		}
	}
	return len(queries) == 0 && !set
}

// parseQueries reports false when the lengths inside do not add up to the length of the data.
func parseQueries(data []byte) (export string, queries []string, ok bool) {
	export, data, ok = cutString(data)
	if !ok || len(data) < 4 {
		return "", nil, false
	}
	count, data := binary.BigEndian.Uint32(data), data[4:]
	for range count {
		var query string
		if query, data, ok = cutString(data); !ok {
			return "", nil, false
		}
		queries = append(queries, query)
	}
	return export, queries, len(data) == 0
}

// cutString cuts a string with its length before it off data.
func cutString(data []byte) (s string, rest []byte, ok bool) {
	if len(data) < 4 {
		return "", nil, false
	}
	length, data := binary.BigEndian.Uint32(data), data[4:]
	if int64(length) > int64(len(data)) || length > maxString {
		return "", nil, false
	}
	return string(data[:length]), data[length:], true
}

// encodeQueries is the data of both options.
func encodeQueries(export string, queries ...string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(export)))
	b = binary.BigEndian.AppendUint32(append(b, export...), uint32(len(queries)))
	for _, q := range queries {
		b = binary.BigEndian.AppendUint32(b, uint32(len(q)))
		b = append(b, q...)
	}
	return b
}
