#!/usr/bin/env bash
# Makes the base image that docker/Dockerfile names, from a Debian mirror instead of a container registry:
# for machines that reach no registry, and for whoever wants to know every file of the base.
#
#   sudo scripts/docker_base.sh           import it under the name that docker/Dockerfile expects
#   sudo scripts/docker_base.sh NAME      or under another: make build-cpu BASE=NAME
#
# Environment (all optional):
#   SUITE=bookworm         Debian's release
#   MIRROR=URL             where the packages are; default: this machine's own Debian mirror
#   ENGINE=docker|podman   what imports; default: docker
#
# Root certificates that this machine's administrator added go in too: behind an inspecting proxy nothing
# could be downloaded in the image otherwise. Needs root, debootstrap, and about 400 MB in TMPDIR for a while.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SUITE=${SUITE:-bookworm}
ENGINE=${ENGINE:-docker}
OWN_CERTIFICATES=/usr/local/share/ca-certificates

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

# This machine's own sources of the suite and its updates, one line of sources.list each.
own_sources() {
  command -v apt-get >/dev/null || return 0
  # shellcheck disable=SC2016  # apt fills these in
  apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT) # $(ORIGIN)' 'Created-By: Packages' \
    | awk -v suite="$SUITE" '$NF == "Debian" && ($3 == suite || index($3, suite "-") == 1) { sub(/ #.*/, ""); print }' | sort -u
}

main_mirror() { awk -v suite="$SUITE" '$3 == suite { print $2; exit }' <<<"$1"; }

# The steps inside the new tree: what is newer than the release, and no caches. Packages' own
# services must not start there.
finish_tree() {
  local tree=$1
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod +x "$tree/usr/sbin/policy-rc.d"
  if [ -d "$OWN_CERTIFICATES" ]; then cp -R "$OWN_CERTIFICATES/." "$tree$OWN_CERTIFICATES/"; fi
  # Certificates first: the sources may be on HTTPS.
  chroot "$tree" update-ca-certificates >&2
  # As official images do: nobody pulls the plug while an image is built.
  echo force-unsafe-io >"$tree/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
  chroot "$tree" apt-get update -qq >&2
  chroot "$tree" env DEBIAN_FRONTEND=noninteractive apt-get upgrade -qq -y >&2
  chroot "$tree" apt-get clean
  rm -rf "$tree/usr/sbin/policy-rc.d" "$tree"/var/lib/apt/lists/* "$tree"/var/log/* "$tree"/var/cache/* "$tree"/tmp/*
  mkdir -p "$tree/var/cache/apt/archives/partial" "$tree/var/log/apt"
}

[ $# -le 1 ] || die "one argument at most, the image's name; found: $*"
NAME=${1:-$(sed -n 's/^ARG BASE=//p' "$ROOT/docker/Dockerfile")}
[ "$(id -u)" -eq 0 ] || die "debootstrap needs root." "Mend it with: sudo $0"
command -v debootstrap >/dev/null || die "debootstrap is missing." "Mend it with: sudo apt-get install debootstrap"
"$ENGINE" version >/dev/null 2>&1 || die "no container engine answers to '$ENGINE'." "Mend it with: sudo systemctl start $ENGINE"
SOURCES=$(own_sources)
MIRROR=${MIRROR:-$(main_mirror "$SOURCES")}
[ -n "$MIRROR" ] || die "this machine has no Debian mirror for '$SUITE'." "Mend it with: MIRROR=http://… $0   (or SUITE=…)"

TREE=$(mktemp -d)
trap 'rm -rf "$TREE"' EXIT
say "base image $NAME: Debian $SUITE from $MIRROR"
debootstrap --variant=minbase --include=ca-certificates "$SUITE" "$TREE" "$MIRROR" >"$TREE.log" 2>&1 \
  || { tail -n 12 "$TREE.log" >&2; die "debootstrap failed." "The full log is $TREE.log"; }
rm -f "$TREE.log"
[ -z "$SOURCES" ] || printf '%s\n' "$SOURCES" >"$TREE/etc/apt/sources.list"
finish_tree "$TREE"
tar -C "$TREE" -c . | "$ENGINE" import --change 'CMD ["bash"]' - "$NAME" >&2
say "base image $NAME: imported"
