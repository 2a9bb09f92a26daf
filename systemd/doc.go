// Package systemd is how the daemon talks to its service manager: readiness and status (Notifier), liveness (Watchdog),
// the log (Logger), and sockets that were opened for it (Sockets). Without a service manager all of it does nothing, so
// that the same program runs by hand and in tests. The unit files lie beside it.
//
// The protocols are those of sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3) and systemd.journal-fields(7).
package systemd
