package api

import (
	"context"
	"math"
	"strconv"

	"github.com/cvold/cvold/client"
)

// extendBody is os-extend (api/contrib/volume_actions.py, schemas/volume_actions.py), with the exact size beside Cinder's.
type extendBody struct {
	newSize   client.GiB
	sizeBytes int64
}

func (b *extendBody) fields() fields {
	return fields{
		"new_size":         value("new_size", &b.newSize, "It must be a whole number of GiB above 0"),
		"cvold:size_bytes": value("cvold:size_bytes", &b.sizeBytes, "It must be a number of bytes above 0"),
	}
}

func (b *extendBody) check() error {
	_, err := b.bytes()
	return err
}

// bytes is the size asked for. The exact one wins, if it says the same as Cinder's.
func (b *extendBody) bytes() (int64, error) {
	n, fits := b.newSize.Bytes()
	switch {
	case b.sizeBytes < 0 || b.sizeBytes == 0 && b.newSize == 0:
		return 0, badRequest("Invalid input for field/attribute os-extend. 'new_size' or 'cvold:size_bytes' is needed, above 0")
	case b.sizeBytes > 0 && b.newSize != 0 && client.ToGiB(b.sizeBytes) != b.newSize:
		return 0, badRequest("new_size says %d GiB, cvold:size_bytes says %d bytes: that is another size", b.newSize, b.sizeBytes)
	case b.sizeBytes > 0:
		return b.sizeBytes, nil
	case !fits:
		return 0, badRequest("Invalid input received: new_size of %d GiB is more than %d bytes", b.newSize, int64(math.MaxInt64))
	}
	return n, nil
}

// run ends an unlocked migration of the volume first, unless the size alone is reason to refuse.
func (b *extendBody) run(ctx context.Context, s *Server, x *exchange) error {
	v, err := s.usable(x.id())
	if err != nil {
		return err
	}
	size, err := b.bytes()
	if err != nil {
		return err
	}
	if size <= v.Size {
		return badRequest("Invalid input received: New size for extend must be greater than current size. "+
			"(current: %s, extended: %s).", sizeInWords(v.Size, size), sizeInWords(size, v.Size))
	}
	if err := s.preempt(ctx, v.ID, "the volume is to be extended"); err != nil {
		return err
	}
	_, err = s.o.Volumes.Extend(ctx, v.ID, size)
	return err
}

// sizeInWords is size as Cinder writes it, in GiB and without the unit, if that and the other size are whole GiB.
func sizeInWords(size, other int64) string {
	const gib = 1 << 30
	if size%gib == 0 && other%gib == 0 {
		return strconv.FormatInt(size/gib, 10)
	}
	return strconv.FormatInt(size, 10) + " bytes"
}
