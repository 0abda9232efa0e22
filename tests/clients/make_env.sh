#!/usr/bin/env bash
# Makes the virtual environments of the client programs that the end-to-end tests run:
#
#     tests/clients/make_env.sh dspy pydantic-ai        # into build/clients/<client>
#
# A second call does nothing. A changed requirements file makes the environment anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PYTHON=${PYTHON:-python3}

make_env() {
  local requirements=tests/clients/requirements/$1.txt env=build/clients/$1
  if [ ! -f "$requirements" ]; then
    echo "error: no client '$1'; there are: $(cd tests/clients/requirements && echo *.txt | sed 's/\.txt//g')" >&2
    exit 1
  fi
  if cmp -s "$requirements" "$env/made-from.txt"; then return; fi
  echo "clients: making $env" >&2
  rm -rf "$env"
  "$PYTHON" -m venv "$env"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$env/bin/python" -m pip install --quiet --no-deps --require-hashes -r "$requirements"
  # Last, so that an interrupted installation is made anew.
  cp "$requirements" "$env/made-from.txt"
}

for client in "$@"; do make_env "$client"; done
