#!/bin/sh
# What a container runs: `corral` with the arguments given, after one word about a missing GPU.
set -eu
build=/opt/corral/build/llama/current/build-info.json

if grep -q '"backend": "cuda"' "$build" && ! nvidia-smi -L >/dev/null 2>&1; then
  echo "corral: no GPU is visible in this container, so models run on the processor. To pass one in:" \
    "docker run --gpus all, or docker/compose.cuda.yaml; docs/docker.md says what the host needs" >&2
fi
exec corral "$@"
