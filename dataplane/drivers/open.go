package drivers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/nbd"
)

// URIOptions say how OpenURI opens what is not a path.
type URIOptions struct {
	// Connections and Requests of an NBD export: see nbd.DialOptions.
	Connections, Requests int
	// Reconnect is how long a break of its connections may last; zero means that the device ends with the first one. See
	// nbd.Reconnecting.
	Reconnect time.Duration
	// Timeout, if not zero, is how long the server may need for a request: see nbd.DialOptions.
	Timeout time.Duration
}

// OpenURI opens what a command line names: a file or a block device by its path, or an NBD export by its URI. It is for
// commands without a daemon, for it knows no volumes. A path that has :// in it needs ./ before it. ErrReadOnly if an
// export cannot be written and mode wants to. The caller closes the device.
func OpenURI(ctx context.Context, name string, mode dataplane.Mode, o URIOptions) (dataplane.Device, error) {
	scheme, _, found := strings.Cut(name, "://")
	if !found || strings.Contains(scheme, "/") {
		return file.OpenPath(ctx, name, mode)
	}
	u, err := nbd.ParseURI(name)
	if err != nil {
		return nil, err
	}
	dial := u.DialOptions()
	dial.Connections, dial.Requests, dial.Timeout = o.Connections, o.Requests, o.Timeout
	if u.TLS {
		if dial.TLS, err = nbd.ClientTLS(u.TLSCertificates); err != nil {
			return nil, err
		}
		dial.TLS.ServerName = u.TLSHostname
	}
	device, err := connect(ctx, dial, o.Reconnect)
	if err != nil {
		return nil, err
	}
	if device.Info().ReadOnly && !mode.ReadOnly {
		device.Close()
		return nil, fmt.Errorf("export %q of %s: %w", u.Export, u.Address, dataplane.ErrReadOnly)
	}
	return device, nil
}

func connect(ctx context.Context, o nbd.DialOptions, reconnect time.Duration) (dataplane.Device, error) {
	if reconnect > 0 {
		device, err := nbd.DialReconnecting(ctx, o, reconnect)
		if err != nil {
			return nil, err // not device: a nil pointer would be a Device that is not nil
		}
		return device, nil
	}
	device, err := nbd.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	return device, nil
}
