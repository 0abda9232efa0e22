#!/usr/bin/env bash
# Writes tests/clients/requirements/<client>.txt from <client>.in: pinned, hashed, naming no index.
# Needs uv on the PATH (`make lock` brings it). Each client has an environment of its own, because
# their pins of openai clash with each other's and with Corral's dev group.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/requirements"

for input in *.in; do
  client=${input%.in}
  {
    echo "# Written by tests/clients/lock.sh from $input."
    uv pip compile --quiet --universal --python-version 3.11 --exclude-newer "7 days" --no-header --no-config \
      --no-emit-index-url --no-emit-find-links --generate-hashes --no-annotate "$input"
  } >"$client.new"
  mv "$client.new" "$client.txt"
done
