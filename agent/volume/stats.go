package volume

import (
	"github.com/cvold/cvold/agent/catalog"
)

// Stats are the manager's numbers at one moment.
type Stats struct {
	// Volumes by status, the temporary ones of migrations included; nil if the store cannot be read.
	Volumes map[catalog.Status]int
	// Attachments recorded, and how many of them are served, with their block devices.
	Attachments, Served int
	// Users by kind: opened devices, or devices being opened. Abandoned ones are not among them.
	Users map[UserKind]int
	// Devices are open now.
	Devices int
	// Abandoned devices did not close in their time.
	Abandoned int
}

// Stats counts. It reads the whole table of volumes.
func (m *Manager) Stats() Stats {
	var s Stats
	if all, err := m.List(Filter{Temporary: true}); err == nil {
		s.Volumes = make(map[catalog.Status]int)
		for _, v := range all {
			s.Volumes[v.Status]++
		}
		s.Attachments = len(m.Attachments(""))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Devices = len(m.handles)
	for _, one := range m.served {
		if one.device == nil || one.device.Lost() == nil {
			s.Served++
		}
	}
	s.Users = make(map[UserKind]int)
	for u := range m.uses {
		if u.abandoned {
			s.Abandoned++
		} else {
			s.Users[u.user.Kind]++
		}
	}
	return s
}
