package config

import (
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

const (
	// maxName bounds names of nodes, back ends and groups in bytes; check bounds what they make together.
	maxName = 128
	// maxPath is PATH_MAX without the closing zero.
	maxPath = 4095
	// maxSocketPath is sun_path of unix(7) without the closing zero.
	maxSocketPath = 107
)

// parseBool takes what oslo.config takes.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "on", "yes":
		return true, nil
	case "false", "0", "off", "no":
		return false, nil
	}
	return false, want("true or false")
}

// parseList takes a comma separated list, as oslo.config's; empty entries are left out.
func parseList(text string) []string {
	var list []string
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	return list
}

// plain says that text is one line that prints.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// parseName takes the parts of a host, node@backend#pool, and the name of a group.
func parseName(text string) (string, error) {
	if len(text) > maxName || !plain(text) || strings.ContainsAny(text, "@#/ ") {
		return "", want("a name of at most %d bytes without @, #, / and spaces", maxName)
	}
	return text, nil
}

// parsePath takes absolute paths.
func parsePath(text string) (string, error) {
	if !filepath.IsAbs(text) || len(text) > maxPath || !plain(text) {
		return "", want("an absolute path")
	}
	return filepath.Clean(text), nil
}

// parseSocket takes paths that a unix socket can have.
func parseSocket(text string) (string, error) {
	path, err := parsePath(text)
	if err == nil && len(path) > maxSocketPath {
		return "", want("a path of at most %d bytes: a unix socket cannot have a longer one, this has %d", maxSocketPath, len(path))
	}
	return path, err
}

// parseTemplate takes volume_name_template. The name becomes a file, a logical volume, an image: one word.
func parseTemplate(text string) (string, error) {
	rest := strings.Replace(text, "%s", "", 1)
	if rest == text || strings.Contains(rest, "%") || strings.ContainsAny(rest, "/ @#") || !plain(rest) || text[0] == '.' ||
		len(text) > maxName {
		return "", want("a name with %%s in it once, for the volume's id, and no other %%, no space, @, # or /: volume-%%s")
	}
	return text, nil
}

// parseAddress takes host:port, as something to connect to.
func parseAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.ContainsAny(host, " /@#") || !plain(host) || !isPort(port) || port == "0" {
		return "", want("host:port, the peer_listen of that node: node2:9443, 192.0.2.7:9443, [2001:db8::7]:9443")
	}
	return text, nil
}

// parseListen takes host:port, as something to listen on: no host means all addresses, port 0 any port.
func parseListen(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.ContainsAny(host, " /@#") || !plain(host) || !isPort(port) {
		return "", want("host:port to listen on: 192.0.2.1:9443, [::]:9443, :9443")
	}
	return text, nil
}

// parseLoopback takes ADDRESS:PORT that only this machine reaches. A name is not taken, for it may come to mean another
// address; nor is a zone.
func parseLoopback(text string) (string, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil || !at.Addr().Unmap().IsLoopback() || at.Addr().Zone() != "" {
		return "", want("a loopback address and a port, 127.0.0.1:8776 or [::1]:8776: it is served without TLS")
	}
	return text, nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// isLoopback says that only this machine can reach the address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func parseClass(text string) (transfer.Class, error) {
	class, err := transfer.ParseClass(text)
	if err != nil {
		return 0, want("%v, %v or %v", transfer.DeviceDirect, transfer.ServerReadback, transfer.Cached)
	}
	return class, nil
}

func parseTransferClass(text string) (catalog.TransferClass, error) {
	if class := catalog.TransferClass(text); class.Valid() {
		return class, nil
	}
	return "", want("%s or %s", catalog.TransferNormal, catalog.TransferBackground)
}

// parseIOPS takes a number of operations a second.
func parseIOPS(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, want("a number of operations a second: 500")
	}
	return n, nil
}

func parseNumber(low, high int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < low || n > high {
			return 0, want("a whole number from %d to %d", low, high)
		}
		return n, nil
	}
}

// ParseBytes takes a number of bytes: 1048576, or with K, M, G, T or P (also Ki, KiB, …) for powers of 1024.
// Units of 1000 are not taken, for nobody agrees on what they mean.
func ParseBytes(text string) (int64, error) {
	number, factor := text, int64(1)
	for i, unit := range []string{"K", "M", "G", "T", "P"} {
		for _, suffix := range []string{unit, unit + "i", unit + "iB"} {
			if cut, ok := strings.CutSuffix(text, suffix); ok {
				number, factor = cut, 1<<(10*(i+1))
			}
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, want("a number of bytes, with K, M, G, T or P for powers of 1024: 200M")
	}
	return n * factor, nil
}

// parseTimeout takes a duration, or seconds as Cinder's options do.
func parseTimeout(text string) (time.Duration, error) {
	return parseDuration(text, minPeerTimeout, maxPeerTimeout)
}

func parseWait(text string) (time.Duration, error) { return parseDuration(text, minWait, maxWait) }

func parseLatency(text string) (time.Duration, error) {
	return parseDuration(text, minLatency, maxLatency)
}

// parseDuration takes a bare number for seconds.
func parseDuration(text string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, secondsErr := strconv.Atoi(text); secondsErr == nil && seconds < math.MaxInt32 {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < low || d > high {
		return 0, want("a duration from %v to %v: 30s", low, high)
	}
	return d, nil
}

func parseMethod(text string) (nbd.KernelMethod, error) {
	if m := nbd.KernelMethod(text); slices.Contains(nbd.KernelMethods(), m) {
		return m, nil
	}
	return "", want("%s, %s or %s", nbd.KernelAuto, nbd.KernelNetlink, nbd.KernelIoctl)
}

func parseLevel(text string) (slog.Level, error) {
	level, ok := levels[strings.ToLower(text)]
	if !ok {
		return 0, want("debug, info, warning or error")
	}
	return level, nil
}

// parseDriver takes the name of a driver, and the classes of drivers that this build does not have, for unserved; it refuses
// the kinds that this build does not serve by their names.
func parseDriver(text string) (string, error) {
	kind := text
	if known, ok := driverNames[text]; ok {
		kind = known
	}
	if _, ok := drivers[kind]; ok {
		return kind, nil
	}
	if isClass(text) {
		return text, nil
	}
	if near := nearest(text, append(kinds(), own+".file")); near != "" {
		return "", say("no such driver: did you mean %s?", word(near))
	}
	return "", notServed(text)
}

// kinds are the kinds of drivers in this build.
func kinds() []string {
	all := make([]string, 0, len(drivers))
	for kind := range drivers {
		all = append(all, kind)
	}
	slices.Sort(all)
	return all
}
