package client

import (
	"context"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/schedulerstats"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/services"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// BinaryVolume is the binary of the services that cvold has: it stands where cinder-volume would.
const BinaryVolume = "cinder-volume"

// Service is a service in the Cinder dialect: one back end of one node.
type Service struct {
	Binary string `json:"binary"`
	// Host is node@backend; the node alone for one whose agent does not answer.
	Host string `json:"host"`
	Zone string `json:"zone"`
	// Status is enabled or disabled.
	Status string `json:"status"`
	// State is up, or down if the back end or its agent does not answer.
	State             string  `json:"state"`
	UpdatedAt         Time    `json:"updated_at"`
	BackendState      *string `json:"backend_state,omitempty"`
	Cluster           *string `json:"cluster"`
	DisabledReason    *string `json:"disabled_reason"`
	ReplicationStatus string  `json:"replication_status"`
	ActiveBackendID   *string `json:"active_backend_id"`
	Frozen            bool    `json:"frozen"`
}

// ServicesAnswer answers GET /v3/os-services.
type ServicesAnswer struct {
	Services []Service `json:"services"`
}

// SetService is the body of PUT /v3/os-services/enable, disable and disable-log-reason, and the answer to it.
type SetService struct {
	Host           string  `json:"host"`
	Binary         string  `json:"binary"`
	DisabledReason *string `json:"disabled_reason,omitempty"`
}

// Pool is a pool of Cinder's scheduler. Capabilities is nil unless details were asked for.
type Pool struct {
	// Name is node@backend#pool.
	Name         string            `json:"name"`
	Capabilities *PoolCapabilities `json:"capabilities,omitempty"`
}

// PoolCapabilities is what a pool has, under Cinder's names. Capacities are in GiB.
type PoolCapabilities struct {
	VolumeBackendName        string  `json:"volume_backend_name"`
	VendorName               string  `json:"vendor_name"`
	DriverVersion            string  `json:"driver_version"`
	StorageProtocol          string  `json:"storage_protocol"`
	PoolName                 string  `json:"pool_name"`
	TotalCapacityGB          float64 `json:"total_capacity_gb"`
	FreeCapacityGB           float64 `json:"free_capacity_gb"`
	AllocatedCapacityGB      float64 `json:"allocated_capacity_gb"`
	ProvisionedCapacityGB    float64 `json:"provisioned_capacity_gb"`
	ReservedPercentage       int     `json:"reserved_percentage"`
	ThinProvisioningSupport  bool    `json:"thin_provisioning_support"`
	ThickProvisioningSupport bool    `json:"thick_provisioning_support"`
	OnlineExtendSupport      bool    `json:"online_extend_support"`
	MultiAttach              bool    `json:"multiattach"`
	ReplicationEnabled       bool    `json:"replication_enabled"`
	QoSSupport               bool    `json:"QoS_support"`
	TotalVolumes             int     `json:"total_volumes"`
	// SparseCopyVolume: zeroes that are copied there take no space.
	SparseCopyVolume bool `json:"sparse_copy_volume"`
	// BackendState is up, or down if the back end does not answer: then the capacities are 0.
	BackendState     string  `json:"backend_state"`
	FilterFunction   *string `json:"filter_function"`
	GoodnessFunction *string `json:"goodness_function"`
	Timestamp        Time    `json:"timestamp"`
}

// PoolsAnswer answers GET /v3/scheduler-stats/get_pools.
type PoolsAnswer struct {
	Pools []Pool `json:"pools"`
}

// Services lists the services of this agent and its peers.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	var answer ServicesAnswer
	err := c.cinderList(ctx, &answer, func(s *gophercloud.ServiceClient) pagination.Pager { return services.List(s, nil) })
	return answer.Services, err
}

// EnableService lets the service node@backend take volumes again.
func (c *Client) EnableService(ctx context.Context, host string) error {
	return c.setService(ctx, "enable", SetService{Host: host, Binary: BinaryVolume})
}

// DisableService keeps new volumes and migrations from the service node@backend. reason may be empty.
func (c *Client) DisableService(ctx context.Context, host, reason string) error {
	in := SetService{Host: host, Binary: BinaryVolume}
	if reason == "" {
		return c.setService(ctx, "disable", in)
	}
	in.DisabledReason = &reason
	return c.setService(ctx, "disable-log-reason", in)
}

func (c *Client) setService(ctx context.Context, verb string, in SetService) error {
	return c.do(ctx, call{method: http.MethodPut, path: []string{"v3", "os-services", verb}, in: in})
}

// Pools lists the pools of this agent and its peers, with what they have. If peers did not answer it returns what there is,
// and a *PartialError.
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	var answer PoolsAnswer
	err := c.cinderList(ctx, &answer, func(s *gophercloud.ServiceClient) pagination.Pager {
		return schedulerstats.List(s, schedulerstats.ListOpts{Detail: true})
	})
	return answer.Pools, err
}
