package api

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// attachment is a record of this agent: catalog.ErrNotFound.
func (s *Server) attachment(id string) (a catalog.Attachment, err error) {
	err = s.o.Store.View(func(tx catalog.Tx) error {
		a, err = catalog.Attachments.Get(tx, id)
		return err
	})
	return a, err
}

// listAttachments answers GET /v1/attachments: those that all agents serve, or with ?volume= those of a volume, by its owner.
func (s *Server) listAttachments(x *exchange) error {
	q := x.r.URL.Query()
	for key := range q {
		if key != "volume" {
			return badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	id := q.Get("volume")
	if id != "" {
		node, err := s.locateID(ofVolume, id, x)
		if err != nil {
			return err
		}
		if node != "" {
			return x.forward(node)
		}
		if _, err := s.volume(id); err != nil {
			return err
		}
	}
	all, err := s.localAttachments(id)
	if err != nil {
		return err
	}
	if id == "" {
		for _, list := range askLists[client.AttachmentsAnswer](x, "/v1/attachments") {
			all = append(all, list.Attachments...)
		}
	}
	slices.SortFunc(all, func(a, b client.Attachment) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return x.json(http.StatusOK, client.AttachmentsAnswer{Attachments: orEmpty(all)})
}

// localAttachments are those that this agent serves, of one volume or, without an id, of all.
func (s *Server) localAttachments(volumeID string) (all []client.Attachment, err error) {
	var records []catalog.Attachment
	err = s.o.Store.View(func(tx catalog.Tx) (err error) {
		records, err = catalog.Attachments.All(tx)
		return err
	})
	for _, a := range records {
		if volumeID == "" || a.VolumeID == volumeID {
			all = append(all, s.attachmentView(a))
		}
	}
	return all, err
}

// showAttachment answers GET /v1/attachments/ID.
func (s *Server) showAttachment(x *exchange) error {
	a, err := s.attachment(x.id())
	if err != nil {
		return noAttachment(err, x.id())
	}
	return x.json(http.StatusOK, client.AttachmentAnswer{Attachment: s.attachmentView(a)})
}

// createAttachment answers POST /v1/attachments. An unlocked migration of the volume gives way.
func (s *Server) createAttachment(x *exchange) error {
	var id string
	var readOnly, device client.Bool
	err := x.read(fields{"volume": text("volume", &id), "read_only": flag("read_only", &readOnly), "device": flag("device", &device)})
	if err != nil {
		return err
	}
	if id == "" {
		return badRequest("'volume' is a required property: the id of a volume")
	}
	node, err := s.locateID(ofVolume, id, x)
	if err != nil {
		return err
	}
	if node != "" && bool(device) {
		return conflict("Volume %s is at node %s: its block device can be made there alone. Attach it on that node, or migrate it to this one.", id, node)
	}
	if node != "" {
		return x.forward(node)
	}
	if _, err := s.usable(id); err != nil {
		return err
	}
	ctx, cancel := x.work()
	defer cancel()
	if err := s.preempt(ctx, id, "the volume is to be attached"); err != nil {
		return err
	}
	attach := s.o.Volumes.Export
	if device {
		attach = s.o.Volumes.Attach
	}
	a, err := attach(ctx, id, bool(readOnly))
	if err != nil {
		return err
	}
	return x.json(http.StatusCreated, client.AttachmentAnswer{Attachment: s.attachmentView(a)})
}

// deleteAttachment answers DELETE /v1/attachments/ID, with ?force=true for a block device that is in use.
func (s *Server) deleteAttachment(x *exchange) error {
	if err := x.noBody(); err != nil {
		return err
	}
	force, err := x.onlyFlag("force")
	if err != nil {
		return err
	}
	if _, err := s.attachment(x.id()); err != nil {
		return noAttachment(err, x.id())
	}
	ctx, cancel := x.work()
	defer cancel()
	if err := s.o.Volumes.Detach(ctx, x.id(), force); err != nil {
		return err
	}
	return x.empty(http.StatusNoContent)
}

func (s *Server) attachmentView(a catalog.Attachment) client.Attachment {
	unix, tcp := s.o.URIs(a.Export)
	view := client.Attachment{
		ID: a.ID, VolumeID: a.VolumeID, Export: a.Export, ReadOnly: a.ReadOnly,
		Node: s.o.Node, URI: unix, TCPURI: tcp, Device: a.Device, CreatedAt: a.CreatedAt,
	}
	if err := s.o.Volumes.Trouble(a); err != nil {
		view.Trouble = err.Error()
	}
	return view
}
