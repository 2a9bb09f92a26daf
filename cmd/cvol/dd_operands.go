package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// ddDefaultBlock is dd's block size without bs=, ibs= and obs=, in bytes.
	ddDefaultBlock = 512
	// ddMaxBlock in bytes: longer reads are cut by the kernel, and then the count of records depends on how.
	ddMaxBlock = 1 << 30
	// ddUnbounded is a count that was not given.
	ddUnbounded = -1
)

// ddOther is why a command line is not carried out by cvol but handed to the system's own dd.
type ddOther struct{ why string }

func (e *ddOther) Error() string { return e.why }

func otherDD(format string, args ...any) error { return &ddOther{fmt.Sprintf(format, args...)} }

// ddStatus is what is told on standard error.
type ddStatus int

const (
	ddStatusDefault ddStatus = iota
	ddStatusNone
	ddStatusNoTransfer
	ddStatusProgress
)

// ddStatuses are the levels of status=.
var ddStatuses = map[string]ddStatus{"none": ddStatusNone, "noxfer": ddStatusNoTransfer, "progress": ddStatusProgress}

// ddOperands is a command line of dd that cvol carries out itself. Offsets and lengths are in bytes.
type ddOperands struct {
	sourceName, targetName string
	// ibs and obs are the sizes of the records that are counted; bs= was given if oneBuffer.
	ibs, obs  int64
	oneBuffer bool
	// count is how much to copy at most, or ddUnbounded.
	count      int64
	skip, seek int64
	// inputFlags and outputFlags are those of open(2).
	inputFlags, outputFlags                 int
	sparse, noTruncate, noCreate, exclusive bool
	dataSync, fullSync                      bool
	status                                  ddStatus
}

// ddNumber is the value of count=, skip= or seek=, whose unit the flags say.
type ddNumber struct {
	value int64
	given bool
	// isBytes: the text ends in B, which means bytes from coreutils 9.1 on, and meant nothing before.
	isBytes bool
}

// ddParser collects operands, which come in any order.
type ddParser struct {
	o                               ddOperands
	bs, ibs, obs                    int64
	count, skip, seek               ddNumber
	countBytes, skipBytes, seekByte bool
}

// parseDD reads a command line of dd. Its error is a *ddOther: what is not known here, or is wrong, the system's own dd
// knows, or says so in its own words.
func parseDD(args []string) (ddOperands, error) {
	p := ddParser{o: ddOperands{count: ddUnbounded}}
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		read := ddNames[name]
		if !found || read == nil {
			return ddOperands{}, otherDD("%s", arg)
		}
		if err := read(&p, value); err != nil {
			return ddOperands{}, otherDD("%s: %v", arg, err)
		}
	}
	if err := p.finish(); err != nil {
		return ddOperands{}, err
	}
	return p.o, nil
}

// ddNames are the operands. The last of several counts, but flags and conversions add up, as in dd.
var ddNames = map[string]func(p *ddParser, value string) error{
	"if":     func(p *ddParser, value string) error { p.o.sourceName = value; return nil },
	"of":     func(p *ddParser, value string) error { p.o.targetName = value; return nil },
	"bs":     func(p *ddParser, value string) error { return ddBlock(&p.bs, value) },
	"ibs":    func(p *ddParser, value string) error { return ddBlock(&p.ibs, value) },
	"obs":    func(p *ddParser, value string) error { return ddBlock(&p.obs, value) },
	"count":  func(p *ddParser, value string) error { return p.count.set(value) },
	"skip":   func(p *ddParser, value string) error { return p.skip.set(value) },
	"iseek":  func(p *ddParser, value string) error { return p.skip.set(value) },
	"seek":   func(p *ddParser, value string) error { return p.seek.set(value) },
	"oseek":  func(p *ddParser, value string) error { return p.seek.set(value) },
	"iflag":  func(p *ddParser, value string) error { return p.symbols(ddInputFlags, value) },
	"oflag":  func(p *ddParser, value string) error { return p.symbols(ddOutputFlags, value) },
	"conv":   func(p *ddParser, value string) error { return p.symbols(ddConversions, value) },
	"status": (*ddParser).setStatus,
}

// ddInputFlags are those of iflag=. fullblock changes nothing here: files and devices give whole blocks.
var ddInputFlags = map[string]func(*ddParser){
	"fullblock":   func(*ddParser) {},
	"count_bytes": func(p *ddParser) { p.countBytes = true },
	"skip_bytes":  func(p *ddParser) { p.skipBytes = true },
	"direct":      func(p *ddParser) { p.o.inputFlags |= unix.O_DIRECT },
	"dsync":       func(p *ddParser) { p.o.inputFlags |= unix.O_DSYNC },
	"sync":        func(p *ddParser) { p.o.inputFlags |= unix.O_SYNC },
	"nonblock":    func(p *ddParser) { p.o.inputFlags |= unix.O_NONBLOCK },
	"noatime":     func(p *ddParser) { p.o.inputFlags |= unix.O_NOATIME },
	"noctty":      func(p *ddParser) { p.o.inputFlags |= unix.O_NOCTTY },
	"nofollow":    func(p *ddParser) { p.o.inputFlags |= unix.O_NOFOLLOW },
}

// ddOutputFlags are those of oflag=.
var ddOutputFlags = map[string]func(*ddParser){
	"seek_bytes": func(p *ddParser) { p.seekByte = true },
	"direct":     func(p *ddParser) { p.o.outputFlags |= unix.O_DIRECT },
	"dsync":      func(p *ddParser) { p.o.outputFlags |= unix.O_DSYNC },
	"sync":       func(p *ddParser) { p.o.outputFlags |= unix.O_SYNC },
	"nonblock":   func(p *ddParser) { p.o.outputFlags |= unix.O_NONBLOCK },
	"noatime":    func(p *ddParser) { p.o.outputFlags |= unix.O_NOATIME },
	"noctty":     func(p *ddParser) { p.o.outputFlags |= unix.O_NOCTTY },
	"nofollow":   func(p *ddParser) { p.o.outputFlags |= unix.O_NOFOLLOW },
}

// ddConversions are those of conv=.
var ddConversions = map[string]func(*ddParser){
	"sparse":    func(p *ddParser) { p.o.sparse = true },
	"notrunc":   func(p *ddParser) { p.o.noTruncate = true },
	"nocreat":   func(p *ddParser) { p.o.noCreate = true },
	"excl":      func(p *ddParser) { p.o.exclusive = true },
	"fdatasync": func(p *ddParser) { p.o.dataSync = true },
	"fsync":     func(p *ddParser) { p.o.fullSync = true },
}

// symbols reads a comma-separated list.
func (p *ddParser) symbols(known map[string]func(*ddParser), value string) error {
	for symbol := range strings.SplitSeq(value, ",") {
		set := known[symbol]
		if set == nil {
			return fmt.Errorf("%q is not known", symbol)
		}
		set(p)
	}
	return nil
}

func (p *ddParser) setStatus(value string) error {
	status, known := ddStatuses[value]
	if !known {
		return fmt.Errorf("level is not known")
	}
	p.o.status = status
	return nil
}

// finish brings everything to bytes.
func (p *ddParser) finish() error {
	o := &p.o
	switch {
	case o.sourceName == "":
		return otherDD("standard input")
	case o.targetName == "":
		return otherDD("standard output")
	case o.exclusive && o.noCreate:
		return otherDD("conv=excl,nocreat")
	}
	o.ibs, o.obs = p.ibs, p.obs
	if p.bs != 0 {
		o.ibs, o.obs, o.oneBuffer = p.bs, p.bs, true
	}
	for _, size := range []*int64{&o.ibs, &o.obs} {
		if *size == 0 {
			*size = ddDefaultBlock
		}
	}
	var err error
	if o.skip, err = p.skip.bytes("skip", p.skipBytes, o.ibs); err != nil {
		return err
	}
	if o.seek, err = p.seek.bytes("seek", p.seekByte, o.obs); err != nil {
		return err
	}
	if p.count.given {
		o.count, err = p.count.bytes("count", p.countBytes, o.ibs)
	}
	return err
}

func (n *ddNumber) set(value string) (err error) {
	n.value, err = parseDDNumber(value)
	n.given, n.isBytes = true, strings.HasSuffix(value, "B")
	return err
}

// bytes is the number in bytes: of itself with a flag that says so, else in blocks. Without the flag the number 1GB is
// bytes to one version of dd and blocks to another; the one that is installed here decides.
func (n *ddNumber) bytes(name string, flag bool, block int64) (int64, error) {
	switch {
	case flag:
		return n.value, nil
	case n.isBytes:
		return 0, otherDD("%s= with B at the end", name)
	case n.value > math.MaxInt64/block:
		return 0, otherDD("%s= is too large", name)
	}
	return n.value * block, nil
}

// ddBlock reads a block size.
func ddBlock(size *int64, value string) error {
	n, err := parseDDNumber(value)
	if err != nil {
		return err
	}
	if n == 0 || n > ddMaxBlock {
		return fmt.Errorf("blocks of %d bytes", n)
	}
	*size = n
	return nil
}

// ddUnits are the suffixes of a number (coreutils manual, "dd invocation").
var ddUnits = func() map[string]int64 {
	units := map[string]int64{"": 1, "c": 1, "w": 2, "b": 512, "B": 1}
	binary, decimal := int64(1), int64(1)
	for _, letters := range []string{"kK", "M", "G", "T", "P", "E"} {
		binary, decimal = binary*1024, decimal*1000
		for _, letter := range strings.Split(letters, "") {
			units[letter], units[letter+"iB"], units[letter+"B"] = binary, binary, decimal
		}
	}
	return units
}()

// parseDDNumber reads a number with its suffix, or several of them with x between, which are multiplied. It is at least 0.
func parseDDNumber(text string) (int64, error) {
	if strings.HasPrefix(text, "0x") {
		return 0, fmt.Errorf("0x is a zero multiplier") // which dd warns of
	}
	product := int64(1)
	for factor := range strings.SplitSeq(text, "x") {
		digits := strings.TrimRight(factor, "BEGKMPTbcikw")
		unit, known := ddUnits[factor[len(digits):]]
		if !known || strings.Trim(digits, "0123456789") != "" {
			return 0, fmt.Errorf("no number")
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64/unit || n*unit > 0 && product > math.MaxInt64/(n*unit) {
			return 0, fmt.Errorf("no number, or too large")
		}
		product *= n * unit
	}
	return product, nil
}
