package config

import (
	"errors"
	"strings"
)

// Unserved is an enabled back end of Cinder whose driver this build does not have.
type Unserved struct {
	// Name is the section's, Driver the class that it names.
	Name, Driver string
	// BackendName is volume_backend_name.
	BackendName string
	// Reason is a sentence with file and line.
	Reason string
}

// isClass says that a driver is named by its class in Python, as Cinder's are, and not by a name of ours.
func isClass(driver string) bool {
	return strings.Contains(driver, ".") && !strings.HasPrefix(strings.ToLower(driver), own+".")
}

// notServed says that this build does not have a driver, and which one it has.
func notServed(driver string) error {
	if kind, ok := driverNames[driver]; ok {
		driver = kind
	}
	return say("not served by this build: %s: want %s", driver, word(strings.Join(kinds(), ", ")))
}

// unserved takes the back ends of Cinder's drivers out of the enabled ones. Without another one they are problems.
func (r *reader) unserved(c *Config, all []Backend) {
	for _, b := range all {
		if !isClass(b.Driver) {
			c.Backends = append(c.Backends, b)
			continue
		}
		reason := (&Config{settings: r.settings}).Wrong(b.Name, "volume_driver", errors.New(r.shown(notServed(b.Driver))))
		c.Unserved = append(c.Unserved, Unserved{b.Name, r.mask(b.Driver), b.BackendName, reason.Error()})
	}
	if len(c.Backends) > 0 || len(c.Unserved) == 0 {
		return
	}
	for _, u := range c.Unserved {
		at, _ := r.get(r.section(u.Name), "volume_driver", []string{shared})
		r.problem(at, "[%s] volume_driver = %s: %v", u.Name, u.Driver, notServed(u.Driver))
	}
}

// Warnings are sentences on what was accepted, and has no effect or opens the agent to all.
func (c *Config) Warnings() []string {
	var all []string
	for _, u := range c.Unserved {
		all = append(all, u.Reason)
	}
	if len(c.OwnBackends) > 0 {
		all = append(all, c.Wrong(own, "own_backends", errors.New("has no effect: no cinder-volume serves a back end of the driver file, and this build has no other driver")).Error())
	}
	if c.InsecureLoopbackAdmin {
		all = append(all, c.Wrong(own, "insecure_loopback_admin",
			errors.New("every user and program of this machine that connects to api_listen commands the agent as root does")).Error())
	}
	return all
}
