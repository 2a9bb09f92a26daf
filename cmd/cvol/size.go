package main

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// units are the suffixes of a size. Decimal units are not among them: 4TB would be taken for 4T by those who don't look.
var units = []struct {
	letter string
	shift  uint
}{{"P", 50}, {"T", 40}, {"G", 30}, {"M", 20}, {"K", 10}}

// maxSizeText bounds the text of a size: no size that int64 holds is written longer.
const maxSizeText = 40

// parseSize reads a size in bytes: a number without a suffix is GiB, as Cinder has it; B is bytes; K, M, G, T, P (also
// Ki, KiB, …) are powers of 1024. A fraction is taken if it comes to whole bytes.
func parseSize(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a size: use 10 (GiB), 512M, 1.5G, 4T or 1048576B", text)
	if text == "" || len(text) > maxSizeText {
		return 0, bad
	}
	number, shift := cutUnit(text)
	if strings.Trim(number, "0123456789.") != "" {
		return 0, bad
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, bad
	}
	value.Mul(value, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), shift)))
	switch {
	case value.Sign() <= 0:
		return 0, fmt.Errorf("size %q is not above zero", text)
	case !value.IsInt():
		return 0, fmt.Errorf("size %q is not a whole number of bytes", text)
	case !value.Num().IsInt64():
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return value.Num().Int64(), nil
}

// parseRate reads bytes a second, as the agent's configuration has them: a number without a suffix is bytes, 0 is no limit.
func parseRate(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if withUnit := strings.Trim(text, "0123456789.") != ""; err != nil && withUnit {
		n, err = parseSize(text)
	}
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no rate: use 1048576, 100M, 1.5G, or 0 for no limit", text)
	}
	return n, nil
}

// cutUnit takes the suffix off and says the power of two that it stands for.
func cutUnit(text string) (number string, shift uint) {
	for _, unit := range units {
		for _, suffix := range []string{unit.letter + "iB", unit.letter + "i", unit.letter} {
			if number, ok := strings.CutSuffix(text, suffix); ok {
				return number, unit.shift
			}
		}
	}
	if number, ok := strings.CutSuffix(text, "B"); ok {
		return number, 0
	}
	return text, 30
}

// size is bytes for people, with at most two decimals.
func size(bytes int64) string {
	for _, unit := range units {
		if bytes >= 1<<unit.shift {
			return decimal(float64(bytes)/float64(int64(1)<<unit.shift)) + " " + unit.letter + "iB"
		}
	}
	return strconv.FormatInt(bytes, 10) + " B"
}

// exactSize is bytes for people, and exact.
func exactSize(bytes int64) string {
	if bytes < 1<<10 {
		return size(bytes)
	}
	return fmt.Sprintf("%s (%d bytes)", size(bytes), bytes)
}

// rate is bytes a second for people.
func rate(bytesPerSecond float64) string { return size(int64(bytesPerSecond)) + "/s" }

// decimal writes at most two decimals, and none that are zero.
func decimal(f float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(f, 'f', 2, 64), "0"), ".")
}
