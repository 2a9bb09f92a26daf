package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

// fault is an error that a handler found itself, with its HTTP status.
type fault struct {
	code    int
	message string
}

func (f fault) Error() string { return f.message }

// badRequest is a 400 with a sentence.
func badRequest(format string, args ...any) error {
	return fault{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// conflict is a 409 with a sentence.
func conflict(format string, args ...any) error {
	return fault{http.StatusConflict, fmt.Sprintf(format, args...)}
}

// noVolume is Cinder's 404 of a volume.
func noVolume(id string) error {
	return fault{http.StatusNotFound, fmt.Sprintf("Volume %s could not be found.", id)}
}

// codes are the HTTP statuses of the errors of the packages below; the first one that matches counts. Cinder says 400
// where a volume's state forbids a request (exception.py: InvalidVolume is an Invalid); the agent's own dialect says 409,
// to tell "ask again later" from "never".
var codes = []struct {
	err         error
	cinder, own int
}{
	{volume.ErrNotFound, 404, 404},
	{migration.ErrNotFound, 404, 404},
	{volume.ErrMoved, 409, 409},
	{migration.ErrLocked, 409, 409},
	{migration.ErrTooLate, 409, 409},
	{migration.ErrConflict, 409, 409},
	{migration.ErrInvalid, 400, 400},
	{migration.ErrRefused, 400, 400},
	{volume.ErrInvalid, 400, 400},
	{volume.ErrNoBackend, 400, 400},
	{volume.ErrExists, 409, 409},
	{volume.ErrNeedsMigration, 400, 409},
	{volume.ErrInUse, 400, 409},
	{volume.ErrMigrating, 400, 409},
	{volume.ErrMaintenance, 400, 409},
	{volume.ErrStatus, 400, 409},
	{volume.ErrNoSpace, 413, 413},
	{migration.ErrNoSpace, 413, 413},
	{dataplane.ErrNoSpace, 413, 413},
	{dataplane.ErrExists, 409, 409},
	{dataplane.ErrNotOurs, 409, 409},
	{dataplane.ErrBusy, 400, 409},
	{dataplane.ErrNotSupported, 400, 400},
	{volume.ErrNoServer, 503, 503},
	{nbd.ErrNoKernel, 503, 503},
	{nbd.ErrInvalidExport, 400, 400},
	{volume.ErrClosed, 503, 503},
	{catalog.ErrClosed, 503, 503},
	{catalog.ErrNoSpace, 503, 503},
	{migration.ErrBusy, 503, 503},
	{dataplane.ErrAbandoned, 503, 503},
	{dataplane.ErrDisconnected, 503, 503},
	{context.DeadlineExceeded, 503, 503},
	{context.Canceled, 503, 503},
}

// answerTo turns every error into what is answered: status, Cinder's kind, one sentence. What is not known here is the
// agent's own trouble: 500, without the details, which are logged under the request's id.
func answerTo(err error, cinder bool, requestID string) *client.Error {
	var f fault
	if errors.As(err, &f) {
		return client.NewError(f.code, f.message)
	}
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return client.NewError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", tooLong.Limit))
	}
	for _, c := range codes {
		if !errors.Is(err, c.err) {
			continue
		}
		if cinder {
			return client.NewError(c.cinder, err.Error())
		}
		return client.NewError(c.own, err.Error())
	}
	return client.NewError(http.StatusInternalServerError,
		"The agent has erred; its log says more under the request id "+requestID+".")
}

// noAttachment is a 404, unless err is something else.
func noAttachment(err error, id string) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return fault{http.StatusNotFound, fmt.Sprintf("Attachment %s could not be found.", id)}
	}
	return err
}
