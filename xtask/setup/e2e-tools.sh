#!/usr/bin/env bash
# What `make e2e` and `make cluster` need to run a real Kubernetes cluster on this machine, without an image registry:
# Kubernetes' own components and a few Go tools, built from the module proxy, etcd, containerd, CNI plugins, kubectl and
# busybox, unpacked from Debian sid's packages, and Prometheus, from this machine's release. Nothing of that enters the system: it all lies in the cache folder.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/say.sh"

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$cache/bin
store=$cache/e2e
mkdir -p "$bin" "$store"

kubernetes=1.36.4 # as in e2e/controlplane/go.mod
coredns=1.15.0
helm=4.3.1
kubeconform=0.8.0

# --- parts that Debian builds -------------------------------------------------------------------------------------

# A private apt with the machine's own mirror: the system's lists and packages stay as they are.
private_apt() {
    [[ ${APT_CONFIG:-} == "$store/apt/apt.conf" ]] && return
    local apt=$store/apt mirror
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    # shellcheck disable=SC2016 # $(SITE) is apt's own
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -1)
    [[ -n $mirror ]] || fail "apt knows no mirror" "run apt-get update"
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$apt/sources.list"
    export APT_CONFIG=$apt/apt.conf
    apt-get update -qq
}

# take FOLDER PACKAGES…: their files below $store/FOLDER. Releases move, so what was taken is written down, not pinned.
take() {
    local folder=$store/$1 debs=$store/$1.debs
    shift
    rm -rf "$folder" "$debs"
    mkdir -p "$debs" "$folder.partial"
    (cd "$debs" && apt-get download -qq -o APT::Sandbox::User=root "$@")
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$folder.partial"; done
    find "$debs" -name '*.deb' -printf '%f\n' | sort >"$folder.partial/packages.txt"
    rm -r "$debs"
    mv "$folder.partial" "$folder" # a folder that exists is whole
}

# unpack FOLDER PACKAGES…: from sid.
unpack() {
    [[ -e $store/$1/packages.txt ]] && return
    say "unpacking from Debian sid, without installing: ${*:2}"
    private_apt
    take "$@"
}

# unpack_own FOLDER PACKAGES…: from the release that this machine runs, whose libraries they are built for.
unpack_own() {
    [[ -e $store/$1/packages.txt ]] && return
    say "unpacking from this machine's Debian, without installing: ${*:2}"
    (
        unset APT_CONFIG
        (($(id -u) != 0)) || apt-get update -qq
        take "$@"
    )
}

# kubectl is asked for by version: one from elsewhere with a higher epoch would win.
sid_version() {
    private_apt
    apt-cache madison "$1" | awk -F'|' '$3 ~ / sid\// { gsub(/ /, "", $2); print $2; exit }'
}

if [[ ! -e $store/debian/packages.txt ]]; then
    private_apt
    unpack debian etcd-server containerd containernetworking-plugins busybox-static "kubectl=$(sid_version kubectl)"
fi
# Installed, it would also start a server with the machine.
unpack_own prometheus prometheus
for program in prometheus promtool; do ln -sfn "$store/prometheus/usr/bin/$program" "$bin/$program"; done

link() { ln -sfn "$store/debian/$1" "$bin/${2:-${1##*/}}"; }
for program in etcd containerd containerd-shim-runc-v2 ctr kubectl; do link "usr/bin/$program"; done
link usr/lib/cni cni
link "$(cd "$store/debian" && find . -type f -path '*bin/busybox' -printf '%P\n' | head -1)" busybox

# --- parts that are built from the Go module proxy ----------------------------------------------------------------

go_is_new() { [[ $(printf '%s\n' 1.26 "$("$1" env GOVERSION 2>/dev/null | sed s/^go//)" | sort -V | head -1) == 1.26 ]]; }

go=$(command -v go || true)
find_go() {
    if [[ -z $go ]] || ! GOTOOLCHAIN=local go_is_new "$go"; then
        say "this machine has no Go 1.26, which Kubernetes $kubernetes is written in"
        unpack go golang-1.26-go golang-1.26-src
        go=$store/go/usr/lib/go-1.26/bin/go
    fi
}

export GOMODCACHE=$cache/go/mod GOCACHE=$cache/go/build CGO_ENABLED=0 GOTOOLCHAIN=local GOTELEMETRY=off GOFLAGS=-mod=readonly

# done_with NAME KEY / mark NAME KEY: what was built from which version.
done_with() { [[ -x $bin/$1 && -e $bin/.$1 && $(<"$bin/.$1") == "$2" ]]; }
mark() { echo "$2" >"$bin/.$1"; }

# tool NAME PACKAGE VERSION WHY
tool() {
    done_with "$1" "$3" && return
    find_go
    say "building $1 $3: $4"
    GOFLAGS='' GOBIN=$bin nice -n 10 "$go" install -p 2 -trimpath -ldflags "-s -w" "$2@v$3"
    mark "$1" "$3"
}

controlplane() {
    local key flags="-s -w" package
    key=$kubernetes-$(cat "$root"/e2e/controlplane/{go.mod,go.sum,main.go} | sha256sum | cut -c1-16)
    done_with controlplane "$key" && return
    find_go
    say "building Kubernetes $kubernetes (about five minutes the first time): kubelet, API server, scheduler, …"
    # Without these the components call themselves v0.0.0-master, and what reads a server's version is misled.
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=v$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=36"
        flags+=" -X $package.gitTreeState=clean"
    done
    (cd "$root/e2e/controlplane" && nice -n 10 "$go" build -p 2 -trimpath -ldflags "$flags" -o "$bin/controlplane" .)
    mark controlplane "$key"
}

controlplane
for component in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
    ln -sfn controlplane "$bin/$component"
done
tool helm helm.sh/helm/v4/cmd/helm "$helm" "installs the chart as users do"
tool coredns github.com/coredns/coredns "$coredns" "the cluster's DNS"
tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform "$kubeconform" "checks rendered manifests against their schemas"

# --- pause, the container that holds a pod's namespaces ------------------------------------------------------------

pause=$root/e2e/src/local/pause.c
key=$(sha256sum <"$pause" | cut -c1-16)
if ! done_with pause "$key"; then
    say "compiling pause"
    cc -O2 -Wall -static -s -o "$bin/pause" "$pause"
    mark pause "$key"
fi
