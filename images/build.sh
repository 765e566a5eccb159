#!/usr/bin/env bash
# build.sh [NAME…]: builds the images of images/NAME/Dockerfile, by default all that users need, and writes each as
# target/images/afterglow-NAME.tar, a docker-archive that `ctr images import`, `kind load image-archive`, `docker load` and
# `podman load` take. An image whose inputs did not change is left alone.
#
# With a Docker daemon that answers it builds with that, else with buildah as root: no daemon, and with no registry in reach
# the base image is made from Debian's packages. Nothing is written to the machine's own image store.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${AFTERGLOW_CACHE:-$HOME/.cache/afterglow}/images
out=$root/target/images
context=$out/context
base=docker.io/library/debian:trixie-slim
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -1)
tag=${AFTERGLOW_IMAGE_TAG:-$version}

say() { printf 'images: %s\n' "$*"; }
fail() {
    printf 'images: error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

# One build at a time: they share a store.
mkdir -p "$out" "$cache"
exec 8>"$out/.lock"
flock 8

image() { echo "localhost/afterglow-$1:$tag"; }

# The tree of the context that an image copies.
tree() {
    case $1 in
        agent-pocl) echo agent ;;
        *) echo "$1" ;;
    esac
}

# What an image is made of, in one hash: its Dockerfile, the files it copies, its name and what it stands on.
inputs() {
    {
        echo "$tag $base"
        cat "$here/$1/Dockerfile"
        if [[ $1 == agent-polaris-shim ]]; then
            cat "$out/afterglow-agent.inputs"
        else
            cd "$context/$(tree "$1")" && find . -type f -print0 | sort -z | xargs -0 sha256sum
        fi
    } | sha256sum | cut -d' ' -f1
}

if docker info >/dev/null 2>&1; then
    builder=docker
else
    builder=buildah
    (( $(id -u) == 0 )) || fail "no Docker daemon answers, and buildah here needs root" "start Docker, or run as root"
    command -v buildah >/dev/null || fail "neither a Docker daemon nor buildah is here" "xtask/setup/setup.sh images"
fi

# A store of our own. Overlay copies nothing; where the kernel refuses it (a container on overlay), vfs copies every layer.
overlay_works() {
    local try=$out/.overlay works=1
    mkdir -p "$try"/{lower,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/merged" 2>/dev/null; then
        umount "$try/merged"
        works=0
    fi
    rm -rf "$try"
    return $works
}

if [[ $builder == buildah ]]; then
    driver=vfs
    if overlay_works; then driver=overlay; fi
    export STORAGE_DRIVER=${STORAGE_DRIVER:-$driver} BUILDAH_ISOLATION=chroot TMPDIR=$out
fi
in_store() { buildah --root "$out/storage" --runroot "$out/storage-run" "$@"; }

# Where no registry answers, the same minimal Debian from the machine's own package mirror.
have_base() {
    [[ $builder == buildah ]] || return 0
    if in_store inspect --type image "$base" >/dev/null 2>&1; then return; fi
    local rootfs=$cache/debian-trixie-slim.tar container
    if [[ ! -f $rootfs ]]; then
        if timeout 20 buildah --root "$out/storage" --runroot "$out/storage-run" pull --quiet "$base" >/dev/null 2>&1; then
            say "pulled $base"
            return
        fi
        command -v mmdebstrap >/dev/null || fail "no registry answers for $base, and mmdebstrap is not here" \
            "xtask/setup/setup.sh images"
        say "no registry answers: making $base from Debian's packages"
        mmdebstrap --quiet --mode=root --variant=minbase \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            trixie "$rootfs.part.tar"
        mv "$rootfs.part.tar" "$rootfs"
    fi
    container=$(in_store from scratch)
    in_store add --quiet "$container" "$rootfs" / >/dev/null
    in_store config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    in_store commit --quiet --rm "$container" "$base" >/dev/null
}

build_with_docker() { # NAME ARCHIVE
    docker build --quiet --file "$here/$1/Dockerfile" --tag "$(image "$1")" --build-arg "AGENT_IMAGE=$(image agent)" \
        --label "org.opencontainers.image.version=$version" --label org.opencontainers.image.licenses=Apache-2.0 \
        "$context" >/dev/null
    docker save --output "$2" "$(image "$1")"
}

build_with_buildah() { # NAME ARCHIVE
    # Packages are kept where a next build finds them: downloading is half of the time.
    mkdir -p "$cache/apt"
    in_store build --quiet --layers --pull=never --file "$here/$1/Dockerfile" --tag "$(image "$1")" \
        --build-arg "AGENT_IMAGE=$(image agent)" --volume "$cache/apt:/var/cache/apt/archives" \
        --label "org.opencontainers.image.version=$version" --label org.opencontainers.image.licenses=Apache-2.0 \
        "$context" >"$out/$1.log" 2>&1 || {
        tail -20 "$out/$1.log" >&2
        fail "images/$1/Dockerfile does not build" "the whole log is in target/images/$1.log"
    }
    in_store push --quiet "$(image "$1")" "docker-archive:$2:$(image "$1")"
}

build() { # NAME
    local name=$1 archive=$out/afterglow-$1.tar wanted started=$SECONDS
    [[ -f $here/$name/Dockerfile ]] || fail "there is no images/$name/Dockerfile" "names: $(cd "$here" && echo */ | tr -d /)"
    wanted=$(inputs "$name")
    if [[ -f $archive && -f ${archive%.tar}.inputs && $(<"${archive%.tar}.inputs") == "$wanted" ]]; then
        say "$(image "$name") is up to date"
        return
    fi
    have_base
    rm -f "$archive" "${archive%.tar}.inputs"
    "build_with_$builder" "$name" "$archive.part"
    mv "$archive.part" "$archive"
    echo "$wanted" >"${archive%.tar}.inputs"
    say "$(image "$name"): $(du -m "$archive" | cut -f1) MB in $((SECONDS - started)) s"
}

names=("$@")
(( ${#names[@]} )) || names=(operator scheduler agent agent-pocl)
"$here/stage.sh"
for name in "${names[@]}"; do
    if [[ $name == agent-polaris-shim ]]; then build agent; fi
    build "$name"
done
if [[ $builder == buildah ]]; then in_store rmi --prune >/dev/null 2>&1 || true; fi
