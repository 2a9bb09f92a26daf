package volume

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// capabilitiesScope is the scope of extra specs that ask for capabilities, as keys without a scope do. Keys of other
// scopes are words to the driver.
const capabilitiesScope = "capabilities:"

// lacking is what of the extra specs a back end does not have, as a sentence's end; empty if it has all (Cinder's
// CapabilitiesFilter, scheduler/filters/capabilities_filter.py).
func (c Capabilities) lacking(specs map[string]string) string {
	for _, key := range sortedKeys(specs) {
		name := strings.TrimPrefix(key, capabilitiesScope)
		if strings.Contains(name, ":") {
			continue
		}
		have, known := c.value(name)
		switch {
		case !known:
			return fmt.Sprintf("it has no %s, and %q is asked for", name, specs[key])
		case !specMatches(have, specs[key]):
			return fmt.Sprintf("its %s is %s, and %q is asked for", name, have, specs[key])
		}
	}
	return ""
}

// specMatches compares a capability with what an extra spec asks for: the same text, or one of Cinder's operators before
// it (scheduler/filters/extra_specs_ops.py). An operator that is none of them is part of the text.
func specMatches(have, want string) bool {
	words := strings.Fields(want)
	if len(words) == 0 {
		return have == want
	}
	operator, rest := words[0], strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(want), words[0]))
	if compare, ok := numberOperators[operator]; ok {
		a, errA := strconv.ParseFloat(have, 64)
		b, errB := strconv.ParseFloat(rest, 64)
		return errA == nil && errB == nil && compare(a, b)
	}
	if compare, ok := textOperators[operator]; ok {
		return compare(have, rest)
	}
	return have == want
}

var numberOperators = map[string]func(have, want float64) bool{
	"=":  func(have, want float64) bool { return have >= want }, // Cinder's "=" is "at least"
	"==": func(have, want float64) bool { return have == want },
	"!=": func(have, want float64) bool { return have != want },
	">=": func(have, want float64) bool { return have >= want },
	"<=": func(have, want float64) bool { return have <= want },
}

var textOperators = map[string]func(have, want string) bool{
	"s==":  func(have, want string) bool { return have == want },
	"s!=":  func(have, want string) bool { return have != want },
	"s<":   func(have, want string) bool { return have < want },
	"s<=":  func(have, want string) bool { return have <= want },
	"s>":   func(have, want string) bool { return have > want },
	"s>=":  func(have, want string) bool { return have >= want },
	"<in>": strings.Contains,
	"<is>": func(have, want string) bool { return truth(have) == truth(want) },
	"<or>": func(have, want string) bool {
		return slices.ContainsFunc(strings.Split(want, "<or>"), func(one string) bool { return strings.TrimSpace(one) == have })
	},
}

// truth is how oslo.utils reads a boolean (strutils.bool_from_string): what is no word for true is false.
func truth(word string) bool {
	return slices.Contains([]string{"1", "t", "true", "on", "y", "yes"}, strings.ToLower(word))
}
