package catalog

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
)

// bbolt trusts its pages, so every value carries a checksum of its own: eight hexadecimal digits, a space, the record.
// Table and key are summed too, so a record that turns up in another's place is found out.
const sealSize = 9

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
