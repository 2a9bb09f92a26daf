package ini

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const expandable = `[DEFAULT]
state_path = /var/lib/cinder
volumes = $state_path/volumes
only_default = d
circle = a $circle
left = $right
right = ${DEFAULT.left}
[lvm-1]
state_path = /srv
Mixed = m
_x = under
group.key = never
[ceph]
pool = rbd
user = ${pool}er
`

func TestExpand(t *testing.T) {
	f := parse(t, "a.conf", expandable)
	defaults := func(section, key string) (string, bool) {
		if section == Default && key == "my_ip" {
			return "10.0.0.1", true
		}
		if section == "ceph" && key == "conf" {
			return "/etc/${pool}.conf", true
		}
		return "", false
	}
	tests := []struct {
		name, section, text, want string
	}{
		{"nothing", "lvm-1", "plain", "plain"},
		{"own section first", "lvm-1", "$state_path/x", "/srv/x"},
		{"then DEFAULT", "ceph", "$state_path/x", "/var/lib/cinder/x"},
		{"braces", "ceph", "${state_path}x", "/var/lib/cinderx"},
		{"other section", "lvm-1", "${ceph.pool}", "rbd"},
		{"other section without braces", "lvm-1", "$ceph.pool", "rbd"},
		{"a section's case does not count", "lvm-1", "${CEPH.pool}", "rbd"},
		{"value within value", "ceph", "$volumes", "/var/lib/cinder/volumes"},
		{"within a value its own section counts", "lvm-1", "$volumes ${ceph.user}", "/var/lib/cinder/volumes rbder"},
		{"keys keep their case", "lvm-1", "$Mixed", "m"},
		{"underscore", "lvm-1", "$_x", "under"},
		{"twice", "ceph", "$pool$pool", "rbdrbd"},
		{"dollars", "ceph", `$$pool \$pool $$$pool`, "$pool $pool $rbd"},
		{"not a name", "ceph", "$ 5$ $1 ${1} ${} ${pool $", "$ 5$ $1 ${1} ${} ${pool $"},
		{"default of an option", "ceph", "$my_ip", "10.0.0.1"},
		{"a default is expanded too", "ceph", "$conf", "/etc/rbd.conf"},
		{"lines", "ceph", "$pool\n$pool", "rbd\nrbd"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := f.Expand(test.section, Value{test.text, "b.conf", 7}, defaults)
			if err != nil || got != (Value{test.want, "b.conf", 7}) {
				t.Errorf("got %+v, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestExpandErrors(t *testing.T) {
	var doubling, chain strings.Builder
	for i := range 20 {
		fmt.Fprintf(&doubling, "d%d = $d%d$d%d\n", i, i+1, i+1)
	}
	for i := range maxDepth + 1 {
		fmt.Fprintf(&chain, "c%d = $c%d\n", i, i+1)
	}
	f := parse(t, "a.conf", expandable+doubling.String()+"d20 = xxxxxxxxxx\n"+chain.String()+fmt.Sprintf("c%d = x", maxDepth+1))
	tests := []struct {
		name, text, problem string
	}{
		{"unknown", "$nothing", "$nothing is set nowhere: set it, or write $$ for a dollar sign"},
		{"unknown group", "${none.pool}", "$none.pool is set nowhere"},
		{"dots are groups", "${DEFAULT.group.key}", "is set nowhere"},
		{"itself", "$circle", "$circle is made of itself"},
		{"two in a circle", "$left", "is made of itself"},
		{"too long", "$d0", "expands to more than 65536 bytes"},
		{"too deep", "$c0", "is more than 32 references deep"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := f.Expand("ceph", Value{test.text, "b.conf", 7}, nil)
			var e *Error
			if !errors.As(err, &e) || e.File != "b.conf" || e.Line != 7 || !strings.Contains(e.Problem, test.problem) {
				t.Errorf("got %+v, %v, want %q", got, err, test.problem)
			}
		})
	}
}
