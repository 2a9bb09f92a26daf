package nbd

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cvold/cvold/dataplane"
)

// extend negotiates what makes transmission better: extended headers, or else structured replies, and with either of them
// base:allocation. A server that has none of it is as good.
func (h *handshake) extend() error {
	extended, err := h.acknowledged(optExtendedHeaders)
	if err != nil {
		return err
	}
	h.session.Structured, h.session.Extended = extended, extended
	if !extended {
		if h.session.Structured, err = h.acknowledged(optStructuredReply); err != nil {
			return err
		}
	}
	if !h.session.Structured {
		return nil
	}
	if h.who.key != "" {
		if err := h.identify(); err != nil {
			return err
		}
	}
	return h.selectContext()
}

// identify tells the server who this is, and asks which incarnation of the export it has. Servers other than ours do not
// know the namespace, and say nothing.
func (h *handshake) identify() error {
	names, _, err := h.listContexts(optListMetaContext, h.who.query())
	if err != nil {
		return err
	}
	for _, name := range names {
		if incarnation, ok := strings.CutPrefix(name, contextSession); ok && len(incarnation) == keyLength {
			h.session.incarnation = incarnation
		}
	}
	return nil
}

// acknowledged sends an option without data, and reports whether the server agrees.
func (h *handshake) acknowledged(option uint32) (bool, error) {
	if err := h.send(appendOption(nil, option, nil)); err != nil {
		return false, err
	}
	kind, data, err := h.reply(option)
	switch {
	case err != nil:
		return false, err
	case kind == repAck && len(data) == 0:
		return true, nil
	case kind&repError != 0 && kind != repErrTLSReqd && kind != repErrShutdown:
		return false, nil
	}
	return false, optionError(option, kind, data)
}

// selectContext selects base:allocation, if the server has it for the export. That the export is missing, or not for this
// client, is found out by GO, in better words.
func (h *handshake) selectContext() error {
	names, ids, err := h.listContexts(optSetMetaContext, contextAllocation)
	if err != nil || len(names) != 1 || names[0] != contextAllocation {
		return err
	}
	h.session.Allocation, h.session.contextID = true, ids[0]
	return nil
}

// listContexts asks for metadata contexts of the export, and returns those that the server names. A server that refuses
// names none.
func (h *handshake) listContexts(option uint32, query string) (names []string, ids []uint32, err error) {
	if err := h.send(appendOption(nil, option, encodeQueries(h.export, query))); err != nil {
		return nil, nil, err
	}
	for range maxReplies {
		kind, data, err := h.reply(option)
		switch {
		case err != nil:
			return nil, nil, err
		case kind == repMetaContext && len(data) >= 4:
			names, ids = append(names, string(data[4:])), append(ids, binary.BigEndian.Uint32(data))
		case kind == repAck:
			return names, ids, nil
		case kind == repErrShutdown:
			return nil, nil, optionError(option, kind, data)
		case kind&repError != 0:
			return nil, nil, nil
		default:
			return nil, nil, optionError(option, kind, data)
		}
	}
	return nil, nil, fmt.Errorf("more than %d metadata contexts for one: %w", maxReplies, ErrProtocol)
}

// believable is what a descriptor says, shaped as dataplane.Device.Extents wants it. NBD_STATE_HOLE alone says nothing of
// what is read there.
func believable(offset, length int64, state uint64) dataplane.Extent {
	return dataplane.Extent{Offset: offset, Length: length, Zero: state&stateZero != 0}
}
