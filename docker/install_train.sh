#!/bin/bash
# Run by docker/Dockerfile in its stage python-train: the train group, the bindings, and one torch.
# TORCH=cpu|pypi; empty means pypi for BACKEND=cuda and cpu for every other. docs/adr/0003 says why two.
set -euo pipefail

install() { pip --python .venv/bin/python install --no-deps --require-hashes "$@"; }

# The blocks (a requirement and its hash lines) of the packages whose names match $1.
blocks() { awk -v pattern="$1" '/^[a-z0-9]/ { keep = ($0 ~ pattern) } keep' "$2"; }

if [ -z "$TORCH" ]; then
  if [ "$BACKEND" = cuda ]; then TORCH=pypi; else TORCH=cpu; fi
fi
install --only-binary :all: -r requirements/train.txt
# Of the data group what the stages use: the serving tokenizer, for training must cut text as serving does (it
# loads the libraries of this image), the rows' parser, and the check of answers against their schema.
blocks '^(llama-cpp-python|diskcache|msgspec|jsonschema|jsonschema-specifications|referencing|rpds-py)==' \
  requirements/data.txt >/tmp/stages.txt
CMAKE_ARGS=-DLLAMA_BUILD=OFF install -r /tmp/stages.txt

case $TORCH in
  cpu)
    install --only-binary :all: -r requirements/torch-cpu.txt || {
      echo "error: pip found no CPU build of torch ($(sed -n 's/ .*//; /^torch==/p' requirements/torch-cpu.txt))." >&2
      echo "  Mend it: put the wheel into docker/wheels/, or name a place that has it in a pip.conf:" >&2
      echo "  make build-cpu PIP_CONF=pip.conf; or take PyPI's, 5 GB larger: make build-cpu TORCH=pypi" >&2
      exit 1
    } ;;
  pypi) install --only-binary :all: -r requirements/torch.txt -r requirements/torch-cuda.txt ;;
  *) echo "error: unknown TORCH '$TORCH'; allowed: cpu, pypi" >&2; exit 1 ;;
esac
