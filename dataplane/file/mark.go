package file

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

const (
	// markVersion is the format that this code writes, and the only one it reads.
	markVersion = 1
	// markName is the extended attribute that holds the mark.
	markName = "user.cvold.mark"
	// maxMark bounds a mark in bytes: ours have some 300, and ext4 keeps all attributes of a file in one block of 4096.
	maxMark = 2048
	// objectIDSize is the length of object ids in bytes: enough that no two are ever the same by chance.
	objectIDSize = 16
)

// record is a mark as it is stored, in JSON.
type record struct {
	Version int            `json:"version"`
	Object  string         `json:"object"`
	Inode   uint64         `json:"inode"`
	Born    int64          `json:"born,omitempty"` // of the file, in nanoseconds since 1970; only in marks beside the file
	Mark    dataplane.Mark `json:"mark"`
}

// newObjectID makes the random part of an identity.
func newObjectID() string {
	var id [objectIDSize]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// errNoMark: there is no mark, or one that is not valid.
var errNoMark = fmt.Errorf("no mark: %w", dataplane.ErrNotOurs)

// parseRecord reads a stored mark. Whatever is wrong with it makes the object not ours.
func parseRecord(p []byte) (record, error) {
	var r record
	if len(p) > maxMark {
		return r, fmt.Errorf("mark of %d bytes: %w", len(p), dataplane.ErrNotOurs)
	}
	if err := json.Unmarshal(p, &r); err != nil {
		return r, fmt.Errorf("mark %.40q: %w", p, dataplane.ErrNotOurs)
	}
	if id, err := hex.DecodeString(r.Object); err != nil || len(id) != objectIDSize || r.Version != markVersion {
		return r, fmt.Errorf("mark of version %d with object id %.40q: %w", r.Version, r.Object, dataplane.ErrNotOurs)
	}
	return r, nil
}

// marks is where marks are kept. The calls that change something come under the directory's lock.
type marks interface {
	// write puts r on the open file, so that it is durable at the latest when the file has been synced.
	write(dir, fd int, r record) error
	// read is the mark of the open file, which may be open with O_PATH only. errNoMark, or another ErrNotOurs.
	read(dir, fd int) (record, error)
	// erase takes the mark off the open file, durably.
	erase(dir, fd int, inode uint64) error
	// remove takes away the mark of a file that is gone.
	remove(dir int, inode uint64) error
}

// xattrMarks keeps the mark on the file itself.
type xattrMarks struct{}

func (xattrMarks) write(_, fd int, r record) error {
	p, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return again(func() error { return unix.Fsetxattr(fd, markName, p, 0) })
}

func (xattrMarks) read(_, fd int) (record, error) {
	p := make([]byte, maxMark)
	var n int
	err := again(func() (err error) { n, err = unix.Getxattr(procPath(fd), markName, p); return err })
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return record{}, errNoMark
	case errors.Is(err, unix.ERANGE):
		return record{}, fmt.Errorf("mark of more than %d bytes: %w", maxMark, dataplane.ErrNotOurs)
	case err != nil:
		return record{}, fmt.Errorf("read mark: %w", err)
	}
	return parseRecord(p[:n])
}

func (xattrMarks) erase(_, fd int, _ uint64) error {
	err := again(func() error { return unix.Fremovexattr(fd, markName) })
	if err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("remove mark: %w", err)
	}
	return again(func() error { return unix.Fsync(fd) })
}

func (xattrMarks) remove(int, uint64) error { return nil }

// sidecarMarks keeps the mark in a file beside, named after the inode: a rename of the object leaves it valid, and the
// object appears only when its mark is durable.
type sidecarMarks struct{}

func sidecarName(inode uint64) string { return sidecarPrefix + strconv.FormatUint(inode, 10) }

func (sidecarMarks) write(dir, fd int, r record) error {
	var err error
	if r.Born, err = birth(fd); err != nil {
		return err
	}
	p, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temp := newPrefix + r.Object + sidecarSuffix
	if err := writeFile(dir, temp, p); err != nil {
		return err
	}
	// One of the same name is of a file that is gone, whose inode this file has now.
	if err := unix.Renameat(dir, temp, dir, sidecarName(r.Inode)); err != nil {
		return err
	}
	return again(func() error { return unix.Fsync(dir) })
}

func (sidecarMarks) read(dir, fd int) (record, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return record{}, err
	}
	p, err := readFile(dir, sidecarName(st.Ino), maxMark+1)
	if errors.Is(err, unix.ENOENT) {
		return record{}, errNoMark
	}
	if err != nil {
		return record{}, fmt.Errorf("read mark: %w", err)
	}
	r, err := parseRecord(p)
	if err != nil {
		return r, err
	}
	born, err := birth(fd)
	if err != nil {
		return r, err
	}
	if born != r.Born {
		return r, fmt.Errorf("mark of an earlier file with inode %d: %w", st.Ino, errNoMark)
	}
	return r, nil
}

func (m sidecarMarks) erase(dir, _ int, inode uint64) error { return m.remove(dir, inode) }

func (sidecarMarks) remove(dir int, inode uint64) error {
	err := unix.Unlinkat(dir, sidecarName(inode), 0)
	if err == nil {
		err = again(func() error { return unix.Fsync(dir) })
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// birth is when the file was made, which nothing but making it anew changes.
func birth(fd int) (int64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err != nil {
		return 0, fmt.Errorf("ask for the birth time: %w", err)
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return 0, fmt.Errorf("no birth time: %w", dataplane.ErrNotSupported)
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec), nil
}
