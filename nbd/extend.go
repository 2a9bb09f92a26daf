package nbd

import (
	"encoding/binary"
	"fmt"

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
	return h.selectContext()
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
	if err := h.send(appendOption(nil, optSetMetaContext, encodeQueries(h.export, contextAllocation))); err != nil {
		return err
	}
	selected := false
	for range maxReplies {
		kind, data, err := h.reply(optSetMetaContext)
		switch {
		case err != nil:
			return err
		case kind == repMetaContext && len(data) >= 4 && string(data[4:]) == contextAllocation && !selected:
			selected, h.session.contextID = true, binary.BigEndian.Uint32(data)
		case kind == repAck:
			h.session.Allocation = selected
			return nil
		case kind&repError != 0:
			return nil
		default:
			return optionError(optSetMetaContext, kind, data)
		}
	}
	return fmt.Errorf("more than %d metadata contexts for one: %w", maxReplies, ErrProtocol)
}

// believable is what a descriptor says, shaped as dataplane.Device.Extents wants it. NBD_STATE_HOLE alone says nothing of
// what is read there.
func believable(offset, length int64, state uint64) dataplane.Extent {
	return dataplane.Extent{Offset: offset, Length: length, Zero: state&stateZero != 0}
}
