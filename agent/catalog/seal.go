package catalog

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
)

// bbolt trusts its pages, so every value carries a checksum of its own: eight hexadecimal digits, a space, the record.
// Table and key are summed too, so a record that turns up in another's place is found out; and the totals of all
// records are kept, so that one that is missing, or older than it should be, is found out as well.
const sealSize = 9

// totals are over the records of all tables.
type totals struct {
	Records int64 `json:"records"`
	// Sum adds up the records' checksums.
	Sum uint64 `json:"sum"`
}

// add counts a sealed value in, subtract counts it out; no value counts for nothing.
func (t *totals) add(sealed []byte) error { return t.count(sealed, 1) }

func (t *totals) subtract(sealed []byte) error { return t.count(sealed, -1) }

func (t *totals) count(sealed []byte, sign int64) error {
	if sealed == nil {
		return nil
	}
	sum, err := strconv.ParseUint(string(sealed[:min(sealSize-1, len(sealed))]), 16, 32)
	if err != nil {
		return fmt.Errorf("checksum %q: %w", sealed[:min(sealSize, len(sealed))], ErrCorrupt)
	}
	t.Records += sign
	t.Sum += uint64(sign) * sum
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(table, key string, value []byte) [4]byte {
	sum := crc32.Update(0, castagnoli, []byte(table+"\x00"+key+"\x00"))
	sum = crc32.Update(sum, castagnoli, value)
	return [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// seal returns value with its checksum in front.
func seal(table, key string, value []byte) []byte {
	sum := checksum(table, key, value)
	sealed := hex.AppendEncode(make([]byte, 0, sealSize+len(value)), sum[:])
	return append(append(sealed, ' '), value...)
}

// unseal returns the value in sealed, sharing its memory, or ErrCorrupt.
func unseal(table, key string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealSize {
		return nil, fmt.Errorf("%s %s: %d bytes: %w", table, key, len(sealed), ErrCorrupt)
	}
	value := sealed[sealSize:]
	sum := checksum(table, key, value)
	if found := string(sealed[:sealSize]); found != hex.EncodeToString(sum[:])+" " {
		return nil, fmt.Errorf("%s %s: checksum %q, want %x: %w", table, key, found, sum, ErrCorrupt)
	}
	return value, nil
}
