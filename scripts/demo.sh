#!/usr/bin/env bash
# The whole loop offline on the bundled model: files, job, evaluation, quantised weights, served answer, by
# examples/finetune_sdk.py against a Corral of its own in build/demo. `make demo` calls it; EPOCHS=8.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA=build/demo
READY_SECONDS=120
mkdir -p "$DATA"
port=$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

CORRAL_DATA="$PWD/$DATA" .venv/bin/corral serve --port "$port" >"$DATA/serve.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT

SECONDS=0
until .venv/bin/python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/ready')" 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || { echo "error: corral serve has ended; $DATA/serve.log says why" >&2; exit 1; }
  [ "$SECONDS" -lt "$READY_SECONDS" ] || { echo "error: not ready after $READY_SECONDS s; see $DATA/serve.log" >&2; exit 1; }
  sleep 0.5
done
.venv/bin/python examples/finetune_sdk.py "http://127.0.0.1:$port/v1" --epochs "${EPOCHS:-8}"
