package systemd

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// maxStatus bounds the status line in bytes: systemctl shows one line of a terminal.
const maxStatus = 512

// Notifier tells the service manager in what state the daemon is. The zero value is ready for use, and safe for concurrent
// use. Without NOTIFY_SOCKET in the environment every call does nothing and returns nil. An error means that the service
// manager was not told; the daemon can go on.
type Notifier struct{}

// Ready says that start, or a reload, is finished.
func (Notifier) Ready() error { return notify(daemon.SdNotifyReady) }

// Stopping says that the daemon is on its way out.
func (Notifier) Stopping() error { return notify(daemon.SdNotifyStopping) }

// Reloading says that the configuration is being read anew; Ready ends it. It carries MONOTONIC_USEC, which
// Type=notify-reload wants.
func (Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify service manager: monotonic clock: %w", err)
	}
	return notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Status sets the line that systemctl status shows. Line breaks become spaces, and what is longer than a line is cut.
func (Notifier) Status(text string) error {
	// A line break would begin an assignment of its own ("READY=1"), and volume names come from users.
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "")
	}
	return notify("STATUS=" + text)
}

// MainPID says which process is the daemon, when it is not the one that was started.
func (Notifier) MainPID(pid int) error { return notify(fmt.Sprintf("MAINPID=%d", pid)) }

// notify sends assignments in one datagram, which the service manager takes as one change.
func notify(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
