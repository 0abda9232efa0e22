#!/usr/bin/env bash
# Corral with nothing but curl:
#
#     make serve                      # in another terminal
#     examples/chat.sh                # or with another base URL as its argument
#
# Prints the record that the bundled model makes of a sentence, as the stream of events that it is.
set -euo pipefail

url=${1:-http://127.0.0.1:8000/v1}

# --no-buffer: curl would otherwise hold the events back. --fail-with-body: an error has a message.
curl --no-buffer --silent --show-error --fail-with-body "$url/chat/completions" \
  --header 'Content-Type: application/json' \
  --data @- <<'JSON'
{
  "model": "corral-tiny-folio",
  "stream": true,
  "messages": [
    {"role": "system", "content": "As an expert cataloger, you will create the FOLIO inventory JSON record."},
    {"role": "user", "content": "For Harbour lights / Anna Berg. Published in 1987 by Knopf, New York Subjects are Lighthouses."}
  ]
}
JSON
