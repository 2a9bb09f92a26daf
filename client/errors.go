package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Errors of this package, beside *Error and *UnreachableError.
var (
	// ErrTooLarge: the agent's answer is longer than maxBody.
	ErrTooLarge = errors.New("answer is longer than 8 MiB")
	// ErrBadAnswer: what answered is not an agent, or one that speaks another language.
	ErrBadAnswer = errors.New("answer is not understood")
	// ErrDisconnected: the connection broke before the answer was there. Whether the agent did what was asked is not known.
	ErrDisconnected = errors.New("connection to the agent broke")
	// ErrAmbiguous: several volumes have the name.
	ErrAmbiguous = errors.New("name is not unique, use an id")
)

// Error is a refusal by the agent, in the form of both dialects: {"badRequest": {"code": 400, "message": "…"}}.
type Error struct {
	// Code is the HTTP status.
	Code int
	// Kind is the key around it: Cinder's name for the code, as KindOf gives it.
	Kind string
	// Message is a sentence for people.
	Message string
}

// NewError makes the error of an HTTP status.
func NewError(code int, message string) *Error {
	return &Error{Code: code, Kind: KindOf(code), Message: message}
}

// kinds are Cinder's names of faults (api/openstack/wsgi.py, Fault._fault_names).
var kinds = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

// KindOf is Cinder's name of a fault with this HTTP status; "computeFault" where it has none.
func KindOf(code int) string {
	if kind, ok := kinds[code]; ok {
		return kind
	}
	return "computeFault"
}

func (e *Error) Error() string { return e.Message }

// fault is what stands under the kind.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// MarshalJSON writes the form of the wire.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]fault{e.Kind: {Code: e.Code, Message: e.Message}})
}

// isError says that a body has the form of an Error.
func isError(body []byte) bool {
	var wire map[string]fault
	return json.Unmarshal(body, &wire) == nil && len(wire) == 1
}

// maxMessage bounds what is kept of a message, in bytes: a long sentence, or enough to tell what answered.
const maxMessage = 4096

// ParseError reads the body of an answer with the HTTP status code. It never fails: a body of another form becomes the
// message, with the status before it. The message is as it came: whoever writes it to a terminal makes it printable.
func ParseError(code int, body []byte) *Error {
	var wire map[string]fault
	if json.Unmarshal(body, &wire) == nil && len(wire) == 1 {
		for kind, f := range wire {
			if f.Message != "" {
				return &Error{Code: code, Kind: kind, Message: cut(f.Message, maxMessage)}
			}
		}
	}
	message := cut(strings.TrimSpace(string(body)), maxMessage)
	if message == "" {
		message = http.StatusText(code)
	}
	return NewError(code, fmt.Sprintf("HTTP %d: %s", code, message))
}

// cut shortens s to at most n bytes, at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// UnreachableError says that nobody could be spoken to at the socket. Nothing was asked.
type UnreachableError struct {
	Socket string
	Err    error
}

// Denied says that the socket is there but may not be used by this user.
func (e *UnreachableError) Denied() bool {
	return errors.Is(e.Err, syscall.EACCES) || errors.Is(e.Err, syscall.EPERM)
}

func (e *UnreachableError) Error() string {
	switch {
	case e.Denied():
		return fmt.Sprintf("permission denied on socket %s: be root or a member of the agent's admin group", e.Socket)
	case errors.Is(e.Err, syscall.ENOENT):
		return fmt.Sprintf("no socket %s: the agent may not be running (systemctl status cvold)", e.Socket)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody listens on socket %s: the agent may not be running (systemctl status cvold)", e.Socket)
	}
	return fmt.Sprintf("connect to socket %s: %v", e.Socket, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// PartialError comes with a list in which the part of some nodes is missing: they did not answer the agent in time.
type PartialError struct{ Nodes []string }

func (e *PartialError) Error() string {
	return "the list is incomplete, no answer from " + strings.Join(e.Nodes, ", ")
}

// IsNotFound says that err is the agent's 404.
func IsNotFound(err error) bool {
	var refusal *Error
	return errors.As(err, &refusal) && refusal.Code == http.StatusNotFound
}
