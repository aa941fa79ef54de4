# shellcheck shell=bash
# For integration/image, integration/deb and integration/engine: Debian root file systems of packages.

. integration/again.sh

# rootfs TAR PACKAGES: makes TAR from the release and the mirror that this machine's apt uses,
# unless it is there.
rootfs() {
    local tar=$1 packages=$2 suite mirror
    [ -s "$tar" ] && return
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }
             $1 == "URIs:" { print $2; exit }' || true)
    [ -n "$mirror" ] || { echo "rootfs: apt's sources name no mirror; add one" >&2; return 1; }
    mkdir -p "$(dirname "$tar")"
    again mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" "$suite" "$tar.new" "$mirror"
    mv "$tar.new" "$tar"
}
