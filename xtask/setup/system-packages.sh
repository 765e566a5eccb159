#!/usr/bin/env bash
# Debian packages that are missing: a C compiler, Python with venv, the OpenCL loader and a device behind it.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/say.sh"
source "$here/opencl.sh"

stage=$1
rust_wanted=1.92

wanted=()
want() { # PACKAGES REASON
    say "needs $1: $2"
    read -ra packages <<<"$1"
    wanted+=("${packages[@]}")
}

as_root() {
    if (( $(id -u) == 0 )); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "installing packages needs root, and there is no sudo" "run as root: $*"
    fi
}

install_wanted() {
    (( ${#wanted[@]} == 0 )) && return
    command -v apt-get >/dev/null || fail "these packages are missing and there is no apt-get here: ${wanted[*]}" \
        "install what your distribution calls them, then try again"
    say "installing: ${wanted[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
    wanted=()
}

has_library() { /sbin/ldconfig -p | grep -q "$1"; }
has_python() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

has_rust() {
    local found
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [[ -n $found ]] && at_least "$rust_wanted" "$found"
}

has_rust || fail "cargo $rust_wanted or newer is missing" "install Rust from https://rustup.rs, then open a new shell"

command -v cc >/dev/null || want "gcc libc6-dev" "linking, and the tokenizer's regular expressions, which are C"
has_python || want "python3 python3-venv" "turning the model's weights into ONNX"
has_library libOpenCL.so.1 || want ocl-icd-libopencl1 "the OpenCL loader"

want_device

if [[ $stage == test ]]; then
    has_library libb64.so.0d || want libb64-0d "perf_analyzer is linked against it"
fi

if [[ $stage == e2e || $stage == images ]] && ! docker info >/dev/null 2>&1; then
    command -v buildah >/dev/null || want buildah "building container images, as no Docker daemon answers"
    command -v mmdebstrap >/dev/null || want mmdebstrap "making the images' base where no registry is in reach"
fi

if [[ $stage == e2e ]]; then
    command -v ip >/dev/null || want iproute2 "a network for every node of the cluster"
    command -v nft >/dev/null || want nftables "kube-proxy's rules"
    command -v nsenter >/dev/null || want util-linux "a node is a set of namespaces"
    command -v mount >/dev/null || want mount "a node has mounts of its own"
    command -v runc >/dev/null || want runc "starting containers"
    [[ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 ]] || want libfaketime "an operator whose clock is wrong"
    [[ -e /usr/lib/x86_64-linux-gnu/libc.a ]] || want "gcc libc6-dev" "the pause container"
fi

install_wanted
want_device # a Mesa may turn out to have come without rusticl
install_wanted
warn_of_closed_cards
