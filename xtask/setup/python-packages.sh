#!/usr/bin/env bash
# One virtual environment; the test stage adds packages to what the run stage installed. Every file is checked by hash.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/say.sh"

stage=$1
requirements=$here/requirements/$stage.txt

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    say "making a Python environment in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
fi

# The test stage contains the run stage, so its mark answers for both.
digest() { sha256sum "$here/requirements/$1.txt" | cut -d' ' -f1; }
installed() { [[ -e $venv/.$1 && $(<"$venv/.$1") == $(digest "$1") ]]; }
installed "$stage" && exit 0
[[ $stage == run ]] && installed test && exit 0

say "installing the Python packages of requirements/$stage.txt"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: -r "$requirements"
digest "$stage" >"$venv/.$stage"
