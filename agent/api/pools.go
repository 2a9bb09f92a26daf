package api

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/cvold/cvold/client"
)

// gib is bytes in GiB.
func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// pool is a back end as a pool of Cinder's scheduler.
func (s *Server) pool(l lookedAt) client.Pool {
	return client.Pool{Name: l.Host.String(), Capabilities: &client.PoolCapabilities{
		VolumeBackendName: l.BackendName, VendorName: l.VendorName, DriverVersion: s.o.Version.Version,
		StorageProtocol: l.StorageProtocol, PoolName: l.Host.Pool,
		TotalCapacityGB: gib(l.Stats.Total), FreeCapacityGB: gib(l.Stats.Free),
		AllocatedCapacityGB: gib(l.AllocatedBytes), ProvisionedCapacityGB: gib(l.AllocatedBytes), TotalVolumes: l.Volumes,
		ThinProvisioningSupport: l.Features.ThinProvisioning, ThickProvisioningSupport: !l.Features.ThinProvisioning,
		OnlineExtendSupport: l.Features.OnlineExtend, SparseCopyVolume: l.Features.Holes,
		BackendState: l.state(), Timestamp: client.Time{Time: time.Now()},
	}}
}

// listPools answers GET /v3/scheduler-stats/get_pools (api/contrib/scheduler_stats.py): the pools of all nodes.
func (s *Server) listPools(x *exchange) error {
	var name, backendName string
	var detail client.Bool
	for key, values := range x.r.URL.Query() {
		switch v := values[len(values)-1]; key {
		case "detail":
			word, err := client.ParseBool(v)
			if err != nil {
				return badRequest("Invalid value for detail: %v", err)
			}
			detail = client.Bool(word)
		case "name":
			name = v
		case "backend_name":
			backendName = v
		default:
			return badRequest("Invalid filters %s are found in query options.", show([]byte(key)))
		}
	}
	var all []client.Pool
	for _, l := range s.lookAtBackends(x) {
		all = append(all, s.pool(l))
	}
	for _, list := range askLists[client.PoolsAnswer](x, "/v3/scheduler-stats/get_pools?detail=true") {
		all = append(all, list.Pools...)
	}
	all = slices.DeleteFunc(all, func(p client.Pool) bool {
		other := p.Capabilities == nil || p.Capabilities.VolumeBackendName != backendName
		return name != "" && name != p.Name || backendName != "" && other
	})
	slices.SortFunc(all, func(a, b client.Pool) int { return cmp.Compare(a.Name, b.Name) })
	if !detail {
		for i := range all {
			all[i].Capabilities = nil
		}
	}
	return x.json(http.StatusOK, client.PoolsAnswer{Pools: orEmpty(all)})
}
