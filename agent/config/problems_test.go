package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/ini"
)

// long is a path that is one byte too long for a socket.
var long = "/" + strings.Repeat("l", 107)

// wrong are wrong configurations and all that is said about each, line by line. The text comes after least, so its first
// line is number 8.
var wrong = []struct{ name, text, want string }{
	{"unknown key, near", "[cvold]\nsockets = /x", "c.conf:9: [cvold] sockets: no such option: did you mean socket?"},
	{"unknown key, other case", "[cvold]\nSocket = /x", "c.conf:9: [cvold] Socket: no such option: did you mean socket?"},
	{"unknown key, far", "[peer:n]\naddress = n:1\nfrobnicate = 1\n[cvold]\n" + tls,
		"c.conf:10: [peer:n] frobnicate: no such option: there are address"},
	{"key of another section", "[cvold]\nhost = n", "c.conf:9: [cvold] host: belongs in [DEFAULT]"},
	{"unknown key of the driver", "[files]\nfile_directoy = /x",
		"c.conf:9: [files] file_directoy: no such option: did you mean file_directory?"},
	{"section, near", "[cvlod]\nsocket = /x", "c.conf:8: [cvlod]: no such section: did you mean [cvold]?"},
	{"section, DEFAULT", "[default]\nhost = n", "c.conf:8: [default]: no such section: did you mean [DEFAULT]?"},
	{"section, peer", "[peer-n2]\naddress = n2:1", "c.conf:8: [peer-n2]: no such section: did you mean [peer:n2]?"},

	{"host", "[DEFAULT]\nhost = a#b",
		"c.conf:9: [DEFAULT] host = a#b: want a name of at most 128 bytes without @, #, / and spaces"},
	{"state_path", "[DEFAULT]\nstate_path = state", "c.conf:9: [DEFAULT] state_path = state: want an absolute path"},
	{"debug", "[DEFAULT]\ndebug = maybe", "c.conf:9: [DEFAULT] debug = maybe: want true or false"},
	{"socket", "[cvold]\nsocket = " + long, "c.conf:9: [cvold] socket = " + long +
		": want a path of at most 107 bytes: a unix socket cannot have a longer one, this has 108"},
	{"nbd_socket that follows from socket", "[cvold]\nsocket = " + long[:103] + "/c", "c.conf:9: [cvold] nbd_socket = " +
		long[:103] + "/nbd.sock: want a path of at most 107 bytes: a unix socket cannot have a longer one, this has 112"},
	{"one socket twice", "[cvold]\nsocket = /x\nnbd_socket = /x",
		"c.conf:10: [cvold] nbd_socket = /x: want another path than socket's"},
	{"admin_group", "[cvold]\nadmin_group = the admins",
		"c.conf:9: [cvold] admin_group = the admins: want a name of at most 128 bytes without @, #, / and spaces"},
	{"nbd_listen", "[cvold]\nnbd_listen = 10809\n" + tls,
		"c.conf:9: [cvold] nbd_listen = 10809: want host:port to listen on: 192.0.2.1:9443, [::]:9443, :9443"},
	{"class", "[cvold]\nminimum_verify_for_delete = none",
		"c.conf:9: [cvold] minimum_verify_for_delete = none: want device-direct, server-readback or cached"},
	{"workers", "[cvold]\ntransfer_workers = 65", "c.conf:9: [cvold] transfer_workers = 65: want a whole number from 0 to 64"},
	{"connections", "[cvold]\ntransfer_connections = 17",
		"c.conf:9: [cvold] transfer_connections = 17: want a whole number from 1 to 16"},
	{"rate", "[cvold]\ntransfer_rate = 5MB",
		"c.conf:9: [cvold] transfer_rate = 5MB: want a number of bytes, with K, M, G, T or P for powers of 1024: 200M"},
	{"IOPS", "[cvold]\ntransfer_iops = 1K", "c.conf:9: [cvold] transfer_iops = 1K: want a number of operations a second: 500"},
	{"IOPS of the node", "[cvold]\nnode_transfer_iops = -1",
		"c.conf:9: [cvold] node_transfer_iops = -1: want a number of operations a second: 500"},
	{"transfer class", "[cvold]\ntransfer_class = idle", "c.conf:9: [cvold] transfer_class = idle: want normal or background"},
	{"latency", "[cvold]\nbackground_latency = 1us", "c.conf:9: [cvold] background_latency = 1us: want a duration from 100µs to 1m0s: 30s"},
	{"Cinder's limit", "[DEFAULT]\nvolume_copy_bps_limit = -1",
		"c.conf:9: [files] volume_copy_bps_limit = -1: want a number of bytes, with K, M, G, T or P for powers of 1024: 200M"},
	{"attach connections", "[cvold]\nattach_connections = 0",
		"c.conf:9: [cvold] attach_connections = 0: want a whole number from 1 to 16"},
	{"attach timeout", "[cvold]\nattach_request_timeout = 0",
		"c.conf:9: [cvold] attach_request_timeout = 0: want a duration from 1s to 24h0m0s: 30s"},
	{"attach method", "[cvold]\nattach_method = sysfs", "c.conf:9: [cvold] attach_method = sysfs: want auto, netlink or ioctl"},
	{"log_level", "[cvold]\nlog_level = loud", "c.conf:9: [cvold] log_level = loud: want debug, info, warning or error"},
	{"peer_timeout", "[cvold]\npeer_timeout = 1h", "c.conf:9: [cvold] peer_timeout = 1h: want a duration from 1s to 10m0s: 30s"},
	{"retry limit", "[cvold]\nmigration_retry_limit = ten",
		"c.conf:9: [cvold] migration_retry_limit = ten: want a whole number from 1 to 1000"},
	{"reference", "[cvold]\nca_file = $nothing",
		"c.conf:9: $nothing is set nowhere: set it, or write $$ for a dollar sign\n" +
			"c.conf:9: [cvold] ca_file: want cert_file, key_file in [cvold] too"},

	{"driver of Cinder alone", "[DEFAULT]\nenabled_backends = lvm\n[lvm]\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver",
		"c.conf:11: [lvm] volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver: not served by this build: lvm: want file"},
	{"driver of nobody alone", "[DEFAULT]\nenabled_backends = x\n[x]\nvolume_driver = a.b",
		"c.conf:11: [x] volume_driver = a.b: not served by this build: a.b: want file"},
	{"driver that this build has not", "[DEFAULT]\nenabled_backends = files,x\n[x]\nvolume_driver = rbd",
		"c.conf:11: [x] volume_driver = rbd: not served by this build: rbd: want file"},
	{"driver, near", "[DEFAULT]\nenabled_backends = files,x\n[x]\nvolume_driver = flie",
		"c.conf:11: [x] volume_driver = flie: no such driver: did you mean file?"},
	{"driver, near, with a dot", "[DEFAULT]\nenabled_backends = files,x\n[x]\nvolume_driver = cvold.files",
		"c.conf:11: [x] volume_driver = cvold.files: no such driver: did you mean cvold.file?"},
	{"no driver", "[DEFAULT]\nenabled_backends = x\n[x]", "c.conf:10: [x] has no volume_driver: want one of file"},
	{"no directory", "[DEFAULT]\nenabled_backends = x\n[x]\nvolume_driver = file",
		"c.conf:10: [x] has no file_directory: want the directory for its volumes"},
	{"bad directory", "[files]\nfile_directory = here", "c.conf:9: [files] file_directory = here: want an absolute path"},
	{"one directory twice", "[DEFAULT]\nenabled_backends = files,x\n[x]\nvolume_driver = file\nfile_directory = /srv//volumes/",
		"c.conf:12: [x] file_directory = /srv/volumes: [files] has this directory"},
	{"one shared directory", "[DEFAULT]\nenabled_backends = x,y\n[x]\n[y]\n[backend_defaults]\nvolume_driver = file\nfile_directory = /s",
		"c.conf:14: [y] file_directory = /s: [x] has this directory"},
	{"no back ends", "[DEFAULT]\nenabled_backends = ,",
		"c.conf:9: [DEFAULT] enabled_backends: want the sections of the back ends to serve"},
	{"no section", "[DEFAULT]\nenabled_backends = file",
		"c.conf:9: [DEFAULT] enabled_backends: there is no section [file]: did you mean [files]?"},
	{"no section like it", "[DEFAULT]\nenabled_backends = ceph-ssd",
		"c.conf:9: [DEFAULT] enabled_backends: there is no section [ceph-ssd]"},
	{"twice", "[DEFAULT]\nenabled_backends = files, FILES", "c.conf:9: [DEFAULT] enabled_backends: FILES is there twice"},
	{"not a back end", "[DEFAULT]\nenabled_backends = cvold, files",
		`c.conf:9: [DEFAULT] enabled_backends: "cvold" cannot be a back end`},
	{"a name that makes no host", "[DEFAULT]\nenabled_backends = a@b, files",
		`c.conf:9: [DEFAULT] enabled_backends: "a@b" cannot be a back end`},
	{"own_backends", "[cvold]\nown_backends = files, other", "c.conf:9: [cvold] own_backends: other is not in enabled_backends"},

	{"certificates", "[cvold]\npeer_listen = :9443\nnbd_listen = :10809\nmetrics_listen = :9100\nkey_file = /key",
		"c.conf:12: [cvold] key_file: want ca_file, cert_file in [cvold] too\n" +
			"c.conf:9: [cvold] peer_listen: want ca_file, cert_file in [cvold] too\n" +
			"c.conf:10: [cvold] nbd_listen: want ca_file, cert_file in [cvold] too\n" +
			"c.conf:11: [cvold] metrics_listen = :9100 is not a loopback address: want ca_file, cert_file in [cvold] too"},
	{"certificates for peers", "[peer:n2]\naddress = n2:9443",
		"c.conf:8: [peer:n2]: want ca_file, cert_file, key_file in [cvold] too"},
	{"one address twice", "[cvold]\npeer_listen = :9443\nnbd_listen = :9443\n" + tls,
		"c.conf:10: [cvold] nbd_listen = :9443: peer_listen has this address"},

	{"api_listen for all", "[cvold]\napi_listen = :8776",
		"c.conf:9: [cvold] api_listen = :8776: " + wantLoopback},
	{"api_listen for others", "[cvold]\napi_listen = 192.0.2.1:8776",
		"c.conf:9: [cvold] api_listen = 192.0.2.1:8776: " + wantLoopback},
	{"api_listen by name", "[cvold]\napi_listen = localhost:8776",
		"c.conf:9: [cvold] api_listen = localhost:8776: " + wantLoopback},
	{"api_listen with a zone", "[cvold]\napi_listen = [::1%lo]:8776",
		"c.conf:9: [cvold] api_listen = [::1%lo]:8776: " + wantLoopback},
	{"api_listen where metrics are", "[cvold]\napi_listen = 127.0.0.1:9\nmetrics_listen = 127.0.0.1:9",
		"c.conf:9: [cvold] api_listen = 127.0.0.1:9: metrics_listen has this address"},
	{"insecure_loopback_admin", "[cvold]\ninsecure_loopback_admin = maybe",
		"c.conf:9: [cvold] insecure_loopback_admin = maybe: want true or false"},

	{"peer without a name", "[peer:]\naddress = n:1\n[cvold]\n" + tls,
		"c.conf:8: [peer:]: want the name of the node, without @, #, / and spaces: [peer:node2]"},
	{"peer with a bad name", "[peer:a@b]\naddress = n:1\n[cvold]\n" + tls,
		"c.conf:8: [peer:a@b]: want the name of the node, without @, #, / and spaces: [peer:node2]"},
	{"peer without address", "[peer:n]", "c.conf:8: [peer:n] has no address: want the peer_listen of that node, host:port"},
	{"peer with a bad address", "[peer:n]\naddress = n",
		"c.conf:9: [peer:n] address = n: want host:port, the peer_listen of that node: node2:9443, 192.0.2.7:9443, [2001:db8::7]:9443"},
	{"one peer twice", "[peer:n]\naddress = n:1\n[peer:N]\naddress = n:2\n[cvold]\n" + tls,
		"c.conf:11: [peer:n] address: is set in line 9 already"},
	{"two peers with one address", "[peer:n]\naddress = n:1\n[peer:m]\naddress = n:1\n[cvold]\n" + tls,
		"c.conf:11: [peer:m] address = n:1: [peer:n] has this address"},
	{"a host that is too long", "[DEFAULT]\nhost = " + strings.Repeat("h", 128) + "\n[files]\nvolume_backend_name = " + strings.Repeat("n", 122),
		"c.conf:4: [files] makes a host of 257 bytes, at most 255 can be: " + strings.Repeat("h", 128) + "@files#" + strings.Repeat("n", 122)},
	{"several", "[cvold]\nlog_level = x\nsokcet = /y\n[DEFAULT]\ndebug = z",
		"c.conf:12: [DEFAULT] debug = z: want true or false\n" +
			"c.conf:9: [cvold] log_level = x: want debug, info, warning or error\n" +
			"c.conf:10: [cvold] sokcet: no such option: did you mean socket?"},
}

const wantLoopback = "want a loopback address and a port, 127.0.0.1:8776 or [::1]:8776: it is served without TLS"

func TestProblems(t *testing.T) {
	for _, test := range wrong {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(t, least+test.text)
			if err == nil || err.Error() != test.want {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
			var problem *ini.Error
			if !errors.As(err, &problem) {
				t.Errorf("%T has no file and line", err)
			}
		})
	}
}

// TestGood: what looks wrong and is not.
func TestGood(t *testing.T) {
	for name, text := range map[string]string{
		"an empty value is none":              "[cvold]\npeer_listen =\ntransfer_workers =\nnbd_socket =",
		"metrics on loopback are plain":       "[cvold]\nmetrics_listen = 127.0.0.1:9100",
		"so on localhost":                     "[cvold]\nmetrics_listen = localhost:9100",
		"so on IPv6":                          "[cvold]\nmetrics_listen = [::1]:9100",
		"the API on IPv6":                     "[cvold]\napi_listen = [::1]:8776",
		"the API on a mapped address":         "[cvold]\napi_listen = [::ffff:127.0.0.1]:8776",
		"the API on another of 127/8":         "[cvold]\napi_listen = 127.9.9.9:0\ninsecure_loopback_admin = yes",
		"any ports":                           "[cvold]\npeer_listen = [::]:0\nnbd_listen = [::]:0\n" + tls,
		"the agent itself as a peer":          "[peer:machine]\naddress = machine:1",
		"a peer in another place again":       "[peer:n]\naddress = n:1\n[cvold]\n" + tls,
		"a driver of Cinder beside":           "[DEFAULT]\nenabled_backends = files,lvm\n[lvm]\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver",
		"a driver that is not enabled":        "[lvm]\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver",
		"a key of Cinder in a back end":       "[files]\nmax_over_subscription_ratio = 1",
		"sections of Cinder":                  "[coordination]\n[key_manager]\n[oslo_concurrency]\n[cors]",
		"an enabled back end named like ours": "[DEFAULT]\nenabled_backends = cvol\n[cvol]\nvolume_driver = file\nfile_directory = /x",
	} {
		if _, err := parse(t, least+text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLinkedDirectories: a symbolic link does not make two directories of one.
func TestLinkedDirectories(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	_, err := parse(t, "[DEFAULT]\nenabled_backends = a,b\n[a]\nvolume_driver = file\nfile_directory = "+real+
		"\n[b]\nvolume_driver = file\nfile_directory = "+link)
	if err == nil || !strings.Contains(err.Error(), "[a] has this directory") {
		t.Errorf("error %v", err)
	}
}
