#!/usr/bin/env bash
# Two agents on this machine; a volume with a real file system moves from one to the other, and every file is compared.
# Nothing is left behind. Usage: make demo
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/bin:$PATH:/usr/sbin:/sbin"

files=9000             # of this machine's own files go into the volume
size=4G                # of the volume; most of it stays a hole
dir=$(mktemp -d -t cvold-demo.XXXXXX)
pids=()

clean_up() {
  local status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || :; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || :; done
  if [ "$status" != 0 ]; then
    echo "demo: failed; the agents said:" >&2
    tail -n 20 "$dir"/*.log >&2 || :
  fi
  rm -rf "$dir"
}
trap clean_up EXIT

step() { printf '\n== %s\n' "$*"; }

# show a command, and run it. The sockets are named short, as an operator would with CVOL_SOCKET.
show() { printf '$ %s\n' "$(printf '%s ' "$@" | sed "s|$dir/||g")"; "$@"; }

need_e2fsprogs() {
  command -v mkfs.ext4 >/dev/null && command -v debugfs >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    { echo "demo: mkfs.ext4 is missing: install e2fsprogs" >&2; exit 1; }
  apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=600 e2fsprogs >/dev/null
}

# free_port prints a TCP port of 127.0.0.1 that nobody listens on.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  echo "demo: no free port found" >&2
  return 1
}

# configure NODE PEER OWN_PORT PEER_PORT METRICS_PORT
configure() {
  mkdir -p "$dir/$1/pool"
  cat > "$dir/$1.conf" <<CONF
[DEFAULT]
host = $1
enabled_backends = pool
state_path = $dir/$1/state
[pool]
volume_driver = file
file_directory = $dir/$1/pool
[cvold]
socket = $dir/$1.sock
nbd_socket = $dir/$1-nbd.sock
nbd_listen = 127.0.0.1:0
peer_listen = 127.0.0.1:$3
metrics_listen = 127.0.0.1:$5
ca_file = $dir/pki/ca.pem
cert_file = $dir/pki/$1.pem
key_file = $dir/pki/$1.key
[peer:$2]
address = 127.0.0.1:$4
CONF
}

# start NODE and wait until it answers.
start() {
  cvold --config-file "$dir/$1.conf" > "$dir/$1.log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  for _ in $(seq 200); do
    cvol --socket "$dir/$1.sock" version >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "demo: the agent of $1 does not answer" >&2
  return 1
}

on() { local node=$1; shift; cvol --socket "$dir/$node.sock" "$@"; }
show_on() { local node=$1; shift; show cvol --socket "$dir/$node.sock" "$@"; }
root_of() { on "$1" manifest demo | awk '$1 == "root" { print $2 }'; }

# scrape PORT as Prometheus would.
scrape() {
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
  cat <&3
  exec 3<&- 3>&-
}

step "two agents, each with a catalog, a pool of files and a certificate"
need_e2fsprogs
cvol pki init "$dir/pki" >/dev/null
for node in node1 node2; do cvol pki issue "$dir/pki" "$node" >/dev/null; done
port1=$(free_port); port2=$(free_port); metrics1=$(free_port); metrics2=$(free_port)
configure node1 node2 "$port1" "$port2" "$metrics1"
configure node2 node1 "$port2" "$port1" "$metrics2"
start node1
start node2
show_on node1 status

step "a file system with $files of this machine's files"
mkdir "$dir/tree"
{ find /usr /etc -xdev -type f -readable -size -16384k 2>/dev/null || :; } | sed -n "1,${files}p" > "$dir/list"
tar -C / -cf - --ignore-failed-read --no-recursion -T "$dir/list" 2>/dev/null | tar -C "$dir/tree" -xf - --no-same-owner 2>/dev/null
chmod -R u+rwX "$dir/tree"
mkfs.ext4 -q -F -E root_owner="$(id -u):$(id -g)" -d "$dir/tree" "$dir/image" "$size" >/dev/null 2>&1
echo "$(find "$dir/tree" -type f | wc -l) files, $(du -sh "$dir/tree" | cut -f1)"

step "a volume at node1, and the file system written into it over NBD"
show_on node1 create --name demo --host node1@pool#pool "$size" | sed -n 1,5p
uri=$(on node1 export demo)
go run ./test/nbdput "$uri" "$dir/image"
on node1 unexport demo >/dev/null
show_on node1 list

step "the migration"
show_on node1 migrate --wait demo node2@pool#pool

step "what came of it"
show_on node1 show demo
root1=$(root_of node1); root2=$(root_of node2)
echo "manifest's root at node1: $root1"
echo "manifest's root at node2: $root2"
[ -n "$root1" ] && [ "$root1" = "$root2" ]
volume=("$dir"/node2/pool/volume-*)
[ "${#volume[@]}" = 1 ]
[ -z "$(find "$dir/node1/pool" -name 'volume-*')" ]
show e2fsck -fn "${volume[0]}" 2>&1 | sed "s|$dir/||g"
mkdir "$dir/back"
debugfs -R "rdump / $dir/back" "${volume[0]}" >/dev/null 2>&1
diff -r --no-dereference -x lost+found "$dir/tree" "$dir/back"
cmp "$dir/image" "${volume[0]}"
echo "every byte of every file is the same"

step "what Prometheus would scrape at node1"
scrape "$metrics1" | grep -E '^cvold_(transfer|migration)' | grep -v -e _bucket -e ' 0$'

step "done in $SECONDS s"
