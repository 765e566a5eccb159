# shellcheck shell=bash
# Sourced: which OpenCL device this machine gets. What counts is the Mesa that is here or can be had, not the distribution's name.

# The oldest Mesa whose rusticl has compiled every kernel for a Polaris card (`make gates`); older ones are untried.
mesa_wanted=25.0

at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]; }

has_amd_gpu() { grep -qs 0x1002 /sys/class/drm/renderD*/device/vendor; }
has_rusticl() { [[ -e /etc/OpenCL/vendors/rusticl.icd ]]; }

# Mesa's files do not count: without rusticl and a card they offer no device.
has_other_opencl() { compgen -G '/etc/OpenCL/vendors/*.icd' | grep -qvE '/(mesa|rusticl)\.icd$'; }

# Versions of Mesa's OpenCL package, such as 25.0: the installed one, and the one that apt would install. Empty: there is none.
mesa_installed() { dpkg-query --show --showformat='${Version}' mesa-opencl-icd 2>/dev/null | upstream || true; }
mesa_offered() { LC_ALL=C apt-cache policy mesa-opencl-icd 2>/dev/null | awk '$1 == "Candidate:" { print $2 }' | upstream || true; }
upstream() { sed -nE 's/^([0-9]+:)?([0-9]+\.[0-9]+).*/\2/p'; }

# Wants the package of a device: the card's driver where a good one is here or can be had, PoCL where not.
want_device() {
    if has_amd_gpu && card_can_be_used; then return 0; fi
    has_other_opencl || want pocl-opencl-icd "an OpenCL device on the CPU, as this machine has no usable GPU"
}

card_can_be_used() {
    local installed offered found
    installed=$(mesa_installed)
    # A Mesa that is not from a package is taken at its word.
    if has_rusticl && at_least "$mesa_wanted" "${installed:-$mesa_wanted}"; then return 0; fi

    offered=$(mesa_offered)
    if [[ -z $offered ]] && command -v apt-get >/dev/null; then
        (as_root apt-get update -qq) || true # a fresh machine knows no packages yet
        offered=$(mesa_offered)
    fi
    # What is installed and has no rusticl will not have it the next time.
    if [[ -n $offered && $offered != "$installed" ]] && at_least "$mesa_wanted" "$offered"; then
        want mesa-opencl-icd "rusticl of Mesa $offered, the OpenCL driver for this machine's AMD GPU"
        return 0
    fi
    found=${installed:-$offered}
    found=${found:+of Mesa $found}
    say "this machine has an AMD GPU, but its OpenCL is ${found:-missing}: using the CPU"
    say "to use the card, install Mesa $mesa_wanted or newer with rusticl (Debian 13 has it), then run this again"
    return 1
}

# The driver finds no card that its user may not open, and says nothing about it.
warn_of_closed_cards() {
    local vendor node
    for vendor in /sys/class/drm/renderD*/device/vendor; do
        node=${vendor#/sys/class/drm/}
        node=/dev/dri/${node%%/*}
        if grep -qs 0x1002 "$vendor" && [[ -e $node && ! (-r $node && -w $node) ]]; then
            say "you may not open $node, so its card stays unused: run \`sudo usermod -aG render $(id -un)\`, then log in again"
        fi
    done
}
