#!/usr/bin/env bash
# What one installs Trilith from, in target/dist: a static binary, tar.gz, .deb, an OCI image (folder and tar) and SHA256SUMS.
#   docker/dist/dist.sh                  builds a release for x86-64, and for arm64 where a cross compiler is there
#   docker/dist/dist.sh --binary PATH    packages that static binary of this machine's architecture instead
#   --revision N                         revision of the Debian package, 1 when nothing is said
#   --out DIR                            another folder than target/dist
#   --level N                            how hard to compress, 1 to 9; 9 when nothing is said
# Needs tar, gzip, sha256sum, readelf (binutils), python3; dpkg-deb for the .deb, without which it is skipped.
# The same source gives the same archives: times are SOURCE_DATE_EPOCH's, by default those of the last commit.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

binary='' revision=1 out=target/dist level=9
while [ $# -gt 0 ]; do
    case "$1" in
    --binary | --revision | --out | --level) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    *) fail "unknown option $1; see the head of docker/dist/dist.sh" ;;
    esac
    case "$1" in
    --binary) binary=$2 ;;
    --revision) revision=$2 ;;
    --out) out=$2 ;;
    --level) level=$2 ;;
    esac
    shift 2
done

version=$(sed -n '/^\[package\]/,/^\[dependencies\]/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || fail "no version in Cargo.toml"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

case "$(uname -m)" in
x86_64) this_arch=amd64 ;;
aarch64) this_arch=arm64 ;;
*) fail "no packages are made on $(uname -m)" ;;
esac

has() { command -v "$1" >/dev/null; }
# Whether rustc has the standard library of a target, or rustup can fetch it.
has_std() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] || { has rustup && rustup target add "$1" >/dev/null 2>&1; }
}

# build TARGET [VARIABLE=VALUE...]: prints the path of a release; what cargo says goes to stderr.
build() {
    local target=$1
    shift
    env "$@" cargo build --release --locked --bin trilith --target "$target" >&2 || return 1
    printf '%s/%s/release/trilith\n' "${CARGO_TARGET_DIR:-target}" "$target"
}

build_x86_64() {
    if has musl-gcc && has_std x86_64-unknown-linux-musl; then
        build x86_64-unknown-linux-musl
    elif [ "$(uname -m)" = x86_64 ]; then
        say "no musl-gcc (Debian: musl-tools) or no standard library for musl: linking glibc statically" >&2
        build x86_64-unknown-linux-gnu RUSTFLAGS="-C target-feature=+crt-static"
    else
        return 2
    fi
}

# Pages of arm64 kernels have up to 64 KiB; jemalloc must know the largest when it is built.
build_arm64() {
    local page=JEMALLOC_SYS_WITH_LG_PAGE=16
    if has aarch64-linux-musl-gcc && has_std aarch64-unknown-linux-musl; then
        build aarch64-unknown-linux-musl $page CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-musl-gcc
    elif has aarch64-linux-gnu-gcc && has_std aarch64-unknown-linux-gnu; then
        build aarch64-unknown-linux-gnu $page RUSTFLAGS="-C target-feature=+crt-static" \
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    else
        return 2
    fi
}

# A binary that runs anywhere: of this version, without a loader, with the allocator set as .cargo/config.toml has it.
check_binary() {
    local path=$1 arch=$2 word
    if readelf --program-headers --wide "$path" | grep -q INTERP; then
        fail "$path is not static: it asks for a program loader"
    fi
    if [ "$arch" != "$this_arch" ]; then
        say "skipped: running the $arch binary, on $(uname -m)"
        return
    fi
    [ "$("$path" version)" = "trilith $version" ] || fail "$path is not version $version: $("$path" version)"
    MALLOC_CONF=stats_print:true "$path" version >/dev/null 2>"$work/malloc"
    for word in $(sed -n 's/^JEMALLOC_SYS_WITH_MALLOC_CONF = "\(.*\)"/\1/p' .cargo/config.toml | tr , ' '); do
        grep -Eq "opt\.${word%%:*}: ${word#*:}( |\$)" "$work/malloc" || fail "$path: the allocator is not set to $word"
    done
}

# archive FOLDER TAR.GZ, the same bytes each time.
archive() {
    tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
        --directory="$(dirname "$1")" "$(basename "$1")" | gzip "-$level" --no-name >"$2"
}

# glibc, linked statically, gives the first thread that is made, the allocator's, a stack that is executable.
needs_executable_memory() { grep -qa GLIBC_TUNABLES "$1"; }

make_deb() {
    local path=$1 arch=$2 root="$work/deb"
    if ! has dpkg-deb; then
        say "skipped: .deb for $arch: there is no dpkg-deb here"
        return
    fi
    rm -rf "$root"
    install -D -m 755 "$path" "$root/usr/bin/trilith"
    install -D -m 644 docker/dist/trilith.service "$root/usr/lib/systemd/system/trilith.service"
    if needs_executable_memory "$path"; then
        say "$arch: the unit goes without MemoryDenyWriteExecute=, which glibc does not bear when linked statically"
        sed -i '/^MemoryDenyWriteExecute=/d' "$root/usr/lib/systemd/system/trilith.service"
    fi
    install -D -m 644 docker/dist/trilith.yaml "$root/etc/trilith/trilith.yaml"
    install -D -m 644 -t "$root/usr/share/doc/trilith" README.md docker/dist/deb/copyright
    install -d "$root/DEBIAN"
    install -m 755 docker/dist/deb/postinst docker/dist/deb/prerm docker/dist/deb/postrm "$root/DEBIAN"
    echo /etc/trilith/trilith.yaml >"$root/DEBIAN/conffiles"
    sed -e "s/@VERSION@/$version-$revision/" -e "s/@ARCH@/$arch/" \
        -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)/" \
        docker/dist/deb/control >"$root/DEBIAN/control"
    (cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    # xz: what every Debian and Ubuntu in use can read.
    dpkg-deb --root-owner-group -Zxz "-z$level" --build "$root" "$out/trilith_$version-${revision}_$arch.deb" >/dev/null
}

package() {
    local path=$1 arch=$2 name="trilith-$version-linux-$2"
    check_binary "$path" "$arch"
    install -m 755 "$path" "$out/$name"
    rm -rf "${work:?}/$name"
    install -D -m 755 "$path" "$work/$name/trilith"
    install -m 644 README.md LICENSE docker/dist/trilith.yaml docker/dist/trilith.service "$work/$name"
    archive "$work/$name" "$out/$name.tar.gz"
    make_deb "$path" "$arch"
    python3 docker/dist/oci.py --binary "$path" --dockerfile docker/Dockerfile --arch "$arch" --version "$version" \
        --level "$level" --out "$out/$name.oci" --tar "$out/$name.oci.tar"
}

# build_and_package ARCH BUILDER WHY-NOT
build_and_package() {
    local path status=0
    path=$($2) || status=$?
    case "$status" in
    0) package "$path" "$1" ;;
    2) say "skipped: $1: $3" ;;
    *) fail "$1: cargo build failed" ;;
    esac
}

# One function, read whole before it runs: an edit to this file meanwhile does no harm.
main() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$out"
    rm -rf "$out"/trilith[-_]* "$out/SHA256SUMS"
    if [ -n "$binary" ]; then
        package "$binary" "$this_arch"
    else
        build_and_package amd64 build_x86_64 "no musl-gcc and no x86-64 to link on"
        build_and_package arm64 build_arm64 "neither aarch64-linux-musl-gcc nor aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu) with its Rust target"
    fi
    (cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
    ls -l "$out"
}

main
