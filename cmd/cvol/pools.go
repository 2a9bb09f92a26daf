package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) poolsCommand() *cobra.Command {
	var detail bool
	command := &cobra.Command{
		Use:   "pools",
		Short: "List the pools of all nodes and what they have",
		Long: `List the pools of this node and of its peers: the hosts that volumes are made at and migrate to. ALLOCATED is
the size of all volumes there together; in a thin pool it may be more than TOTAL. With --detail, one field a
line, all that extra specs of volume types are compared with. If a peer does not answer, its pools are missing:
the exit code is then 3.`,
		Example: `  cvol pools
  cvol pools --detail`,
		Args: arguments(0, 0),
	}
	command.Flags().BoolVar(&detail, "detail", false, "show all that is known of each")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		pools, err := c.client().Pools(cmd.Context())
		var partial *client.PartialError
		if err != nil && !errors.As(err, &partial) {
			return fmt.Errorf("list pools: %w", err)
		}
		if err := c.showPools(pools, detail); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("list all pools: %w", err)
		}
		return nil
	}
	return command
}

func (c *cli) showPools(pools []client.Pool, detail bool) error {
	if c.json {
		return c.printJSON(client.PoolsAnswer{Pools: pools})
	}
	if detail {
		c.showPoolDetails(pools)
		return nil
	}
	rows := make([][]string, 0, len(pools))
	for _, p := range pools {
		row := []string{p.Name, "", "", "", "", "", ""}
		if v := p.Capabilities; v != nil {
			row = []string{
				p.Name, v.VolumeBackendName, v.StorageProtocol, v.BackendState,
				gib(v.TotalCapacityGB), gib(v.FreeCapacityGB), gib(v.AllocatedCapacityGB),
			}
		}
		rows = append(rows, row)
	}
	c.table([]string{"POOL", "BACKEND NAME", "PROTOCOL", "STATE", "TOTAL", "FREE", "ALLOCATED"}, rows)
	return nil
}

// showPoolDetails shows each pool under Cinder's names, for they are what extra specs say.
func (c *cli) showPoolDetails(pools []client.Pool) {
	for i, p := range pools {
		if i > 0 {
			c.printf("")
		}
		all := []field{{"name", p.Name}}
		if v := p.Capabilities; v != nil {
			all = append(all,
				field{"volume_backend_name", v.VolumeBackendName}, field{"storage_protocol", v.StorageProtocol},
				field{"vendor_name", v.VendorName}, field{"driver_version", v.DriverVersion}, field{"pool_name", v.PoolName},
				field{"backend_state", v.BackendState}, field{"total_capacity_gb", number(v.TotalCapacityGB)},
				field{"free_capacity_gb", number(v.FreeCapacityGB)}, field{"allocated_capacity_gb", number(v.AllocatedCapacityGB)},
				field{"total_volumes", strconv.Itoa(v.TotalVolumes)},
				field{"thin_provisioning_support", word(v.ThinProvisioningSupport)},
				field{"thick_provisioning_support", word(v.ThickProvisioningSupport)},
				field{"online_extend_support", word(v.OnlineExtendSupport)}, field{"multiattach", word(v.MultiAttach)},
				field{"replication_enabled", word(v.ReplicationEnabled)}, field{"QoS_support", word(v.QoSSupport)},
			)
		}
		c.fields(all)
	}
}

// gib is a size of so many GiB as people read it.
func gib(n float64) string { return size(int64(n * (1 << 30))) }

func number(n float64) string { return strconv.FormatFloat(n, 'f', 2, 64) }

// word is a boolean as extra specs have it.
func word(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
