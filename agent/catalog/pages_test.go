package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// imageOpenings is what the openings file of the last image says.
var imageOpenings openings

// image is the file of a store with pages of every kind, and what is in it.
func image(t testing.TB) (file []byte, records map[string]string) {
	t.Helper()
	path := t.TempDir() + "/cvold.db"
	b, err := OpenBolt(path, BoltOptions{Reserve: 1 << 12})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx Tx) error {
		for i := range 60 {
			if err := tx.Put(Volumes.name, number(i), fmt.Appendf(nil, "volume %d %s", i, strings.Repeat(".", 150))); err != nil {
				return err
			}
		}
		return errors.Join(tx.Put(Types.name, "small", []byte("{}")), tx.Put(Guests.name, "large", make([]byte, 9000)))
	})
	for i := range 3 {
		err = errors.Join(err, b.Update(func(tx Tx) error { return tx.Delete(Volumes.name, number(i*7)) }))
	}
	records, viewErr := texts(b)
	imageOpenings = openings{Version: 1, StoreID: b.ID(), Openings: b.Openings()}
	if err := errors.Join(err, viewErr, b.Close()); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file[:b.Stats().UsedBytes], records
}

// openImage opens a damaged file: it must be refused as damaged, or have all its records, or say that it may be older.
func openImage(t *testing.T, file []byte, records map[string]string) (opened bool) {
	t.Helper()
	path := storePath(t)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeOpenings(path, imageOpenings); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBolt(path, BoltOptions{Reserve: 1 << 12})
	if errors.Is(err, ErrCorrupt) {
		return false
	}
	if err != nil {
		t.Fatalf("%v, want ErrCorrupt or none", err)
	}
	defer closeBolt(t, b)
	all, err := texts(b)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(all, records) && !b.Restored() {
		t.Fatal("opened with other records, and nothing was noticed")
	}
	if err := putText(b, "new", "record"); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestWholeImage: the check finds nothing in files that are whole, small or large.
func TestWholeImage(t *testing.T) {
	file, records := image(t)
	if !openImage(t, file, records) {
		t.Error("a whole file is refused")
	}
	b := openBolt(t, storePath(t), BoltOptions{Reserve: 1 << 12})
	err := b.Update(func(tx Tx) error {
		for i := range 20000 {
			if err := tx.Put(Volumes.name, number(i), []byte("volume")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	closeBolt(t, b)
	b = openBolt(t, b.path, BoltOptions{})
	if all, err := texts(b); err != nil || len(all) != 20000 {
		t.Errorf("%d records, error %v", len(all), err)
	}
}

// TestFlippedBytes changes one byte at a time.
func TestFlippedBytes(t *testing.T) {
	file, records := image(t)
	refused, random := 0, rand.New(rand.NewPCG(1, 2))
	const rounds = 150
	for range rounds {
		damaged := bytes.Clone(file)
		damaged[random.IntN(len(damaged))] ^= byte(1 + random.IntN(255))
		if !openImage(t, damaged, records) {
			refused++
		}
	}
	if refused < rounds/4 {
		t.Errorf("%d of %d were refused", refused, rounds)
	}
}

// TestMisplacedPages writes pages over other pages: doubled pages, pages of the wrong kind, rings.
func TestMisplacedPages(t *testing.T) {
	const size = 4096
	file, records := image(t)
	random := rand.New(rand.NewPCG(3, 4))
	pages := len(file) / size
	for range 100 {
		damaged := bytes.Clone(file)
		from, to := random.IntN(pages)*size, random.IntN(pages)*size
		copy(damaged[to:to+size], file[from:from+size])
		if random.IntN(2) == 0 { // with the number that belongs there
			copy(damaged[to:to+8], file[to:to+8])
		}
		openImage(t, damaged, records)
	}
}

func TestCutFiles(t *testing.T) {
	file, records := image(t)
	for _, size := range []int{1, 100, 4095, 4096, 8192, 8200, len(file) / 2, len(file) - 4096, len(file) - 1} {
		if openImage(t, file[:size], records) {
			t.Errorf("a file cut to %d of %d bytes was opened", size, len(file))
		}
	}
	for at := 0; at < len(file); at += 4096 {
		damaged := bytes.Clone(file)
		clear(damaged[at : at+4096])
		openImage(t, damaged, records)
	}
}

// TestTornMeta: without its newest meta page the store opens in the state before, and says so.
func TestTornMeta(t *testing.T) {
	file, _ := image(t)
	newest, _, err := newestMeta(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	at := int(newest.txid%2) * 4096
	for _, n := range []int{1, 60, 4096 - pageHeaderSize} {
		damaged, path := bytes.Clone(file), storePath(t)
		clear(damaged[at+pageHeaderSize : at+pageHeaderSize+n])
		if err := errors.Join(os.WriteFile(path, damaged, 0o600), writeOpenings(path, imageOpenings)); err != nil {
			t.Fatal(err)
		}
		b := openBolt(t, path, BoltOptions{})
		if !b.Restored() {
			t.Errorf("%d bytes gone: not restored", n)
		}
		closeBolt(t, b)
	}
	clear(file[:8192])
	if _, err := checkPages(bytes.NewReader(file), int64(len(file))); err == nil {
		t.Error("a file without meta pages passed")
	}
}

// FuzzOpen writes patch at off into a whole file, cuts it, and opens it.
func FuzzOpen(f *testing.F) {
	file, records := image(f)
	for _, seed := range []struct {
		off, cut uint32
		patch    []byte
	}{
		{0, 0, nil}, {8, 0, []byte{4}}, {4096*3 + 8, 0, []byte{1}}, {4096*3 + 10, 0, []byte{0xff, 0xff}},
		{4096 * 2, 0, bytes.Repeat([]byte{0xff}, 64)}, {0, 4096, nil}, {4096*5 + 12, 0, []byte{0xff, 0xff, 0xff, 0x7f}},
	} {
		f.Add(seed.off, seed.cut, seed.patch)
	}
	f.Fuzz(func(t *testing.T, off, cut uint32, patch []byte) {
		damaged := bytes.Clone(file)
		copy(damaged[int(off)%len(damaged):], patch)
		openImage(t, damaged[:len(damaged)-int(cut)%len(damaged)], records)
	})
}
