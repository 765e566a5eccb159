# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: where things lie and how we talk about them.

cache=${AFTERGLOW_CACHE:-$HOME/.cache/afterglow}
venv=$cache/venv

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: error: %s\n' "$1" >&2
    if [[ -n ${2:-} ]]; then printf '  hint: %s\n' "$2" >&2; fi
    exit 1
}
