#!/usr/bin/env bash
# Builds the images corral:BACKEND (serves) and corral-trainer:BACKEND (fine-tunes).
#
#   scripts/build_image.sh [cpu|cuda|vulkan]     default: cpu
#   scripts/build_image.sh --tree                print the fingerprint of what would go in
#
# Leaves the list of parts (CycloneDX) in build/images/<image>-<backend>.cdx.json, and the name of the backend
# in build/images/current, which `make serve` reads.
#
# Environment (all optional):
#   BASE=image              default: docker/Dockerfile's; scripts/docker_base.sh makes one without a registry
#   CUDA_ARCHITECTURES=…    such as "90": only these; default: the list in scripts/build_llama.sh
#   TORCH=cpu|pypi          which torch the trainer gets; default: pypi (with CUDA) for cuda, else cpu
#   PIP_CONF=FILE           a pip.conf for the time of the build, for mirrors
#   JOBS=n                  compilers at once
#   REVISION=…              what the label says; default: git's commit
#   NETWORK=host            the network of the build's steps
#   ENGINE=podman           another engine; default: docker, the first on the PATH that has BuildKit
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEED_MB=6000
NEED_CUDA_MB=25000

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

# A fingerprint of every file that an image is made of: that of another tree makes the image stale.
tree() {
  local sum=(sha256sum) inputs=(.dockerignore LICENSE README.md docker models pyproject.toml requirements scripts server)
  command -v sha256sum >/dev/null || sum=(shasum -a 256)
  # A released tree is no repository; its files are all there is.
  { git ls-files -z --cached --others --exclude-standard -- "${inputs[@]}" 2>/dev/null \
    || find "${inputs[@]}" -type f -not -name '*.pyc' -print0 2>/dev/null || true; } \
    | grep -zvE '^(docker/compose|docker/wheels/|models/README)' | sort -zu | { xargs -0 "${sum[@]}" 2>/dev/null || true; } \
    | "${sum[@]}" | cut -c1-32
}

# A client of 23 and later needs buildx for BuildKit; an older one has it built in.
has_buildkit() {
  "$1" buildx version >/dev/null 2>&1 && return
  local version
  version=$("$1" --version 2>/dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
  [ -n "$version" ] && [ "$version" -lt 23 ]
}

find_engine() {
  local client
  if [ -n "${ENGINE:-}" ]; then echo "$ENGINE"; return; fi
  while IFS= read -r client; do
    if has_buildkit "$client"; then echo "$client"; return; fi
  done < <(type -ap docker)
  if command -v docker >/dev/null; then die "docker is here without BuildKit." "Mend it with: sudo apt-get install docker-buildx"; fi
  die "no container engine: there is no 'docker' on the PATH." \
    "Mend it with: sudo apt-get install docker.io   (or ENGINE=podman), or build for this machine: make build BACKEND=$BACKEND"
}

check_space() {
  local need=$NEED_MB folder free
  [ "$BACKEND" = cuda ] && need=$NEED_CUDA_MB
  folder=$("$CLIENT" info --format '{{.DockerRootDir}}' 2>/dev/null) || return 0
  [ -d "$folder" ] || return 0
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge "$need" ] || die "not enough disk space for the images in $folder." "needed: $need MB" "free:   $free MB"
}

# Proxies are known to every engine as build arguments that leave no trace in the image.
proxies() {
  local name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || printf '%s\n' --build-arg "$name"
  done
}

arguments() {
  local revision version
  revision=${REVISION:-$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)}
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
  printf '%s\n' --build-arg "BACKEND=$BACKEND" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "TREE=$TREE" --build-arg "LLAMA_COMMIT=$(scripts/llama_source.sh --commit)" \
    --build-arg "SOURCE=$(git remote get-url origin 2>/dev/null | sed 's|//[^/@]*@|//|' || true)" \
    --network "${NETWORK:-host}"
  local name
  for name in BASE CUDA_ARCHITECTURES TORCH JOBS; do
    [ -z "${!name:-}" ] || printf '%s\n' --build-arg "$name=${!name}"
  done
  [ -z "${PIP_CONF:-}" ] || printf '%s\n' --secret "id=pip,src=$PIP_CONF"
  # Podman leaves the health check out of its own format.
  [ "$(basename "$CLIENT")" != podman ] || printf '%s\n' --format docker
  proxies
}

build() {
  local target=$1 image=$2
  say "building $image"
  DOCKER_BUILDKIT=1 "$CLIENT" build --file docker/Dockerfile --target "$target" --tag "$image" "${ARGUMENTS[@]}" . >&2
  "$CLIENT" run --rm --network none --entrypoint cat "$image" /usr/share/sbom/corral.cdx.json >"build/images/${image/:/-}.cdx.json"
  say "$image: $(($("$CLIENT" image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
}

# The trainer's CPU build of torch is published beside PyPI: what this machine's own pip can find goes along.
fetch_torch() {
  local choice=${TORCH:-$([ "$BACKEND" = cuda ] && echo pypi || echo cpu)} pip=pip
  [ "$choice" = cpu ] || return 0
  [ -x .venv/bin/pip ] && pip=.venv/bin/pip
  "$pip" download --quiet --no-deps --require-hashes --only-binary :all: --dest docker/wheels \
    --python-version 3.11 --platform "manylinux_2_28_$(uname -m)" --implementation cp --abi cp311 \
    --requirement requirements/torch-cpu.txt >/dev/null 2>&1 || true
}

if [ "${1:-}" = --tree ]; then tree; exit; fi
BACKEND=${1:-cpu}
case $BACKEND in cpu | cuda | vulkan) ;; *) die "unknown backend '$BACKEND'." "Allowed: cpu, cuda, vulkan" ;; esac
CLIENT=$(find_engine)
"$CLIENT" version >/dev/null 2>&1 || die "no container engine answers to '$CLIENT'." \
  "Mend it with: sudo systemctl start docker; and you must be in the group docker: sudo usermod -aG docker \$USER" \
  "Without an engine: make build BACKEND=$BACKEND"
check_space
TREE=$(tree)
fetch_torch
ARGUMENTS=()
while IFS= read -r argument; do ARGUMENTS+=("$argument"); done < <(arguments)
mkdir -p build/images
build corral "corral:$BACKEND"
build trainer "corral-trainer:$BACKEND"
echo "$BACKEND" >build/images/current
say "serve from them with: make serve"
