package volume

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

const (
	// defaultNameTemplate is Cinder's default of volume_name_template.
	defaultNameTemplate = "volume-%s"
	// defaultCloseTimeout is how long a device may take to close, and an export to drain, before it is abandoned: longer
	// than the I/O timeout of a SCSI disk (30 s), so that one bad sector does not look like a hung back end.
	defaultCloseTimeout = 45 * time.Second
	// claimTimeout is how long a call without a context waits for its turn at a volume.
	claimTimeout = 30 * time.Second
)

// Backend is one back end of this node.
type Backend struct {
	// Name is the section of the configuration.
	Name string
	// BackendName is the section's volume_backend_name, which volume types ask for.
	BackendName string
	// Pool is Name for a back end without pools, which is also what an empty one becomes.
	Pool   string
	Driver dataplane.Driver
}

// Options make a Manager. All parts stay the caller's, who closes them after the Manager.
type Options struct {
	// Node is this node's name, the first part of every host.
	Node     string
	Store    catalog.Store
	Backends []Backend
	// Unserved are sentences on back ends that are configured and not served, by their names: their hosts are refused with them.
	Unserved map[string]string
	// NBD serves the exports; nil: Export is refused with ErrNoServer.
	NBD *nbd.Server
	// Foreground observes how long devices take for the requests of exports, in seconds; may be nil.
	Foreground nbd.Observer
	// Kernel gives an export to this machine's kernel; nil: NBD.Attach does.
	Kernel func(ctx context.Context, export string, o nbd.AttachOptions) (KernelDevice, error)
	// Attach is how it is given; the Identifier is the Manager's.
	Attach nbd.AttachOptions
	// NameTemplate makes an object's name of a volume's id (volume_name_template); default "volume-%s".
	NameTemplate string
	// CloseTimeout bounds the closing of a device and the draining of an export; default 45 s.
	CloseTimeout time.Duration
	// Logger: nil is silence.
	Logger *slog.Logger
	// Now is the clock of the records; default time.Now.
	Now func() time.Time
}

// Manager keeps the volumes of one agent. All methods may be called at the same time; calls that change one volume run
// one after the other.
type Manager struct {
	o     Options
	locks locks
	// volumes is how lists read the table.
	volumes *catalog.Memo[catalog.Volume]

	// stopping ends when Close begins.
	stopping context.Context
	stop     context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // calls under way; added to under mu while not closed
	uses    map[*use]struct{}
	handles map[*Handle]struct{}
	served  map[string]*serving // by attachment id
}

// New makes a Manager. Nothing is done before Start but what is called. ErrInvalid for options that cannot be right.
func New(o Options) (*Manager, error) {
	if o.NameTemplate == "" {
		o.NameTemplate = defaultNameTemplate
	}
	if o.CloseTimeout <= 0 {
		o.CloseTimeout = defaultCloseTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Kernel == nil && o.NBD != nil {
		o.Kernel = attachBy(o.NBD)
	}
	if o.Store == nil {
		return nil, fmt.Errorf("no store: %w", ErrInvalid)
	}
	if strings.Count(o.NameTemplate, "%s") != 1 || strings.Count(o.NameTemplate, "%") != 1 {
		return nil, fmt.Errorf("volume_name_template %q: it needs %%s once, and no other %%: %w", o.NameTemplate, ErrInvalid)
	}
	backends, err := checkBackends(o.Node, o.Backends)
	if err != nil {
		return nil, err
	}
	o.Backends = backends
	m := &Manager{
		o:       o,
		volumes: catalog.NewMemo(catalog.Volumes, cloneRecord),
		uses:    make(map[*use]struct{}), handles: make(map[*Handle]struct{}), served: make(map[string]*serving),
	}
	m.stopping, m.stop = context.WithCancelCause(context.Background())
	return m, nil
}

// checkBackends fills in pools and refuses what could not be told apart by host.
func checkBackends(node string, backends []Backend) ([]Backend, error) {
	seen := make(map[string]bool)
	checked := make([]Backend, 0, len(backends))
	for _, b := range backends {
		if b.Pool == "" {
			b.Pool = b.Name
		}
		h := Host{node, b.Name, b.Pool}
		if _, err := ParseHost(h.String()); err != nil {
			return nil, fmt.Errorf("back end %q: %w", b.Name, err)
		}
		if b.Driver == nil {
			return nil, fmt.Errorf("back end %q has no driver: %w", b.Name, ErrInvalid)
		}
		if seen[b.Name] {
			return nil, fmt.Errorf("back end %q is there twice: %w", b.Name, ErrInvalid)
		}
		seen[b.Name] = true
		checked = append(checked, b)
	}
	return checked, nil
}

// ObjectName is the name of the object of a volume whose name_id is id.
func (m *Manager) ObjectName(id string) string { return fmt.Sprintf(m.o.NameTemplate, id) }

// Host is where b is, as records and peers write it.
func (m *Manager) Host(b Backend) Host { return Host{m.o.Node, b.Name, b.Pool} }

// Backends are the back ends of this node, in the order of the configuration. The slice is the caller's.
func (m *Manager) Backends() []Backend { return append([]Backend(nil), m.o.Backends...) }

// Unserved says of back ends that are configured and not served why, by their names. The map is the caller's.
func (m *Manager) Unserved() map[string]string { return maps.Clone(m.o.Unserved) }

// Backend is the back end of node@backend#pool, where #pool may be missing or be the back end's own name. ErrNoBackend,
// for other nodes too, names what there is; ErrInvalid for what is no host.
func (m *Manager) Backend(host string) (Backend, error) {
	h, err := ParseHost(host)
	if err != nil {
		return Backend{}, err
	}
	for _, b := range m.o.Backends {
		if h.Node == m.o.Node && h.Backend == b.Name && (h.Pool == b.Pool || h.Pool == b.Name) {
			return b, nil
		}
	}
	if why := m.o.Unserved[h.Backend]; h.Node == m.o.Node && why != "" {
		return Backend{}, fmt.Errorf("host %s: %w: %s", host, ErrNoBackend, why)
	}
	return Backend{}, fmt.Errorf("host %s: %w: this node has %s", host, ErrNoBackend, m.hosts(m.o.Backends))
}

// hosts lists back ends for a sentence.
func (m *Manager) hosts(backends []Backend) string {
	if len(backends) == 0 {
		return "none"
	}
	var all []string
	for _, b := range backends {
		all = append(all, m.Host(b).String())
	}
	return strings.Join(all, ", ")
}

func (m *Manager) now() time.Time { return m.o.Now().UTC() }
