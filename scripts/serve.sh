#!/usr/bin/env bash
# Serves the bundled model in the foreground: from the images built last, or natively. `make serve` calls it.
#
#   HOST=127.0.0.1 PORT=8000 RUNTIME=native|docker scripts/serve.sh
#
# Without RUNTIME: from the images when they were built in this clone, an engine answers, and they were made
# from the tree as it is now; else natively, building llama.cpp for this machine first where needed.
# BACKEND=cpu|cuda|vulkan chooses among images; default: the one built last. VOLUME and KEYS: docker/compose.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RUNTIME=${RUNTIME:-}
GIVEN_BACKEND=${BACKEND:-}
export HOST=${HOST:-127.0.0.1} PORT=${PORT:-8000}
ENGINE_SECONDS=10

say() { echo "$*" >&2; }
die() { say "error: $1"; shift; [ $# -eq 0 ] || printf '  %s\n' "$@" >&2; exit 1; }

bounded() { if command -v timeout >/dev/null; then timeout "$ENGINE_SECONDS" "$@"; else "$@"; fi; }

# Why the images cannot serve, with what to type; nothing when they can.
obstacle() {
  local label
  if [ -z "$BACKEND" ]; then echo "no image has been built in this clone; make build-cpu or make build-cuda builds one"; return; fi
  if ! bounded docker version >/dev/null 2>&1; then
    echo "no container engine answers to 'docker'; sudo systemctl start docker starts it"
    return
  fi
  label=$(docker image inspect --format '{{index .Config.Labels "corral.tree"}}' "corral:$BACKEND" 2>/dev/null) \
    || { echo "there is no image corral:$BACKEND; make build-$BACKEND builds it"; return; }
  [ "$label" = "$(scripts/build_image.sh --tree)" ] || echo "the image corral:$BACKEND is stale: this tree has changed since; make build-$BACKEND builds it anew"
}

serve_natively() {
  "${MAKE:-make}" --no-print-directory build BACKEND="$GIVEN_BACKEND"
  exec .venv/bin/corral serve --host "$HOST" --port "$PORT"
}

find_compose() {
  if docker compose version >/dev/null 2>&1; then COMPOSE=(docker compose)
  elif command -v docker-compose >/dev/null; then COMPOSE=(docker-compose)
  else die "Compose is missing." "Mend it with: sudo apt-get install docker-compose   (or docker-compose-plugin)"; fi
}

gpus_for_containers() {
  docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q nvidia || compgen -G '/etc/cdi/nvidia*' >/dev/null || compgen -G '/var/run/cdi/nvidia*' >/dev/null
}

serve_from_image() {
  local files=(-f docker/compose.yaml)
  find_compose
  [ -z "${KEYS:-}" ] || files+=(-f docker/compose.keys.yaml)
  if [ "$BACKEND" = cuda ]; then
    if gpus_for_containers; then files+=(-f docker/compose.cuda.yaml)
    else say "no GPU for containers: the NVIDIA container toolkit is missing (docs/docker.md); models run on the processor"; fi
  fi
  export BACKEND
  say "serving from corral:$BACKEND on http://$HOST:$PORT; RUNTIME=native serves without it"
  exec "${COMPOSE[@]}" -p "${COMPOSE_PROJECT_NAME:-corral}" "${files[@]}" up
}

case $RUNTIME in "" | native | docker) ;; *) die "RUNTIME='$RUNTIME' cannot be served; allowed: native, docker, or none for what is there" ;; esac
if [ "$RUNTIME" = native ]; then serve_natively; fi
BACKEND=${BACKEND:-$(cat build/images/current 2>/dev/null || true)}
reason=$(obstacle)
if [ -z "$reason" ]; then serve_from_image; fi
if [ "$RUNTIME" = docker ]; then die "$reason" "Or serve without an image: make serve RUNTIME=native"; fi
if [ -n "$BACKEND" ]; then say "serving natively, for $reason"; fi
serve_natively
