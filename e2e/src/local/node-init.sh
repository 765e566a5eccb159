#!/bin/bash
# The first process of a node, in mount, pid, uts, ipc and network namespaces of its own: mounts the node's disk, starts
# containerd, kubelet and kube-proxy, and reaps what is left to it.
#   node-init.sh NUMBER STATE BIN POOL ARCHIVE…
set -eu
number=$1 state=$2 bin=$3 pool=$4
shift 4
disk=$state/node$number
log=$state/log/node$number

hostname "node$number"
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns /run/cdi /run/lock
while read -r folder target; do
    mount --bind "$disk/$folder" "$target"
done <"$disk/disk.txt"
mount --make-rshared /var/lib/kubelet

containerd -c "$disk/containerd.toml" >>"$log-containerd.log" 2>&1 &
ctr() { "$bin/ctr" -a /run/containerd/containerd.sock "$@"; }
for _ in $(seq 200); do
    ctr version >/dev/null 2>&1 && break
    sleep 0.05
done
# Before the kubelet asks for them: a pod whose image is missing waits for ten seconds and more.
for archive in "$@"; do
    ctr -n k8s.io images import "$archive" >>"$log-images.log" 2>&1
done

"$bin/kubelet" --config="$disk/kubelet.yaml" --kubeconfig="$state/cfg/node$number.kubeconfig" \
    --hostname-override="node$number" --node-ip="10.201.0.$((10 + number))" --root-dir=/var/lib/kubelet \
    --cert-dir=/var/lib/kubelet/pki --node-labels="afterglow.dev/pool=$pool" >>"$log-kubelet.log" 2>&1 &
"$bin/kube-proxy" --config="$disk/kube-proxy.yaml" --hostname-override="node$number" >>"$log-kube-proxy.log" 2>&1 &

while :; do
    wait || true # the shims of containers are left to the first process
    sleep 1
done
