#!/usr/bin/env bash
# Lays out what goes into the images: one tree per image below target/images/context, as the Dockerfiles copy it.
#
# Binaries come from target/release (AFTERGLOW_BIN_DIR overrides), without their debug information; ONNX Runtime comes from
# the wheel that setup unpacked. So building an image needs no compiler and no source.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
binaries=${AFTERGLOW_BIN_DIR:-$root/target/release}
onnxruntime=${AFTERGLOW_CACHE:-$HOME/.cache/afterglow}/onnxruntime-1.31.1/onnxruntime
context=$root/target/images/context

fail() {
    printf 'images: error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

[[ -d $onnxruntime ]] || fail "ONNX Runtime is not in $onnxruntime" "xtask/setup/setup.sh run"

place() { # FILE TARGET MODE
    [[ -f $1 ]] || fail "$1 is missing" "build it first: make images does"
    if [[ -e $2 && ! $2 -nt $1 && ! $2 -ot $1 ]]; then return; fi # staged before, and not built again since
    install -D -m "$3" "$1" "$2"
    case $2 in
        */usr/bin/* | *.so | *.so.*) strip --strip-debug "$2" ;;
    esac
    touch --reference "$1" "$2"
}

licence() { place "$root/LICENSE" "$1/usr/share/doc/afterglow/LICENSE" 644; }

for hand in operator scheduler; do
    place "$binaries/afterglow-$hand" "$context/$hand/usr/bin/afterglow-$hand" 755
    licence "$context/$hand"
done

agent=$context/agent
place "$binaries/afterglow-agent" "$agent/usr/bin/afterglow-agent" 755
place "$binaries/afterglow-engine" "$agent/usr/bin/afterglow-engine" 755
place "$binaries/libafterglow_opencl_ep.so" "$agent/usr/lib/afterglow/libafterglow_opencl_ep.so" 644
for library in libonnxruntime.so.1.31.1 libonnxruntime_providers_shared.so; do
    place "$onnxruntime/capi/$library" "$agent/usr/lib/afterglow/$library" 644
done
licence "$agent"
for notice in LICENSE ThirdPartyNotices.txt; do
    place "$onnxruntime/$notice" "$agent/usr/share/doc/onnxruntime/$notice" 644
done
