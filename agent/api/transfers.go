package api

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// listTransfers answers GET /v1/transfers: the copies that run now on all nodes.
func (s *Server) listTransfers(x *exchange) error {
	all, err := s.allTransfers(x)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.TransfersAnswer{Transfers: orEmpty(all)})
}

// showTransfer answers GET /v1/transfers/ID.
func (s *Server) showTransfer(x *exchange) error {
	all, err := s.allTransfers(x)
	if err != nil {
		return err
	}
	t, err := one(x, all, "Transfer", func(t client.Transfer) string { return t.ID })
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, client.TransferAnswer{Transfer: t})
}

func (s *Server) allTransfers(x *exchange) ([]client.Transfer, error) {
	all, err := s.localTransfers()
	if err != nil {
		return nil, err
	}
	for _, list := range askLists[client.TransfersAnswer](x, "/v1/transfers") {
		all = append(all, list.Transfers...)
	}
	slices.SortFunc(all, func(a, b client.Transfer) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// localTransfers are the copies of this agent: it copies what it is the source of.
func (s *Server) localTransfers() (all []client.Transfer, err error) {
	views, err := s.o.Migrations.List()
	for _, v := range views {
		if v.Role != client.RoleSource || v.State != catalog.StateCopying {
			continue
		}
		all = append(all, client.Transfer{
			ID: v.ID, VolumeID: v.VolumeID, VolumeName: s.volumeName(v), SourceHost: v.SourceHost, TargetHost: v.TargetHost,
			Node: s.o.Node, Algorithm: v.Algorithm, ChunkSize: v.ChunkSize, Attempt: v.Attempt, Progress: progress(v),
		})
	}
	return all, err
}
