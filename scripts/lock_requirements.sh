#!/usr/bin/env bash
# Writes requirements/<group>.txt from pyproject.toml: pinned, hashed for every platform, and naming no
# index, so that any mirror serves. Needs uv on the PATH (`make lock` brings it).
#
# One resolution for all groups, so that any two can share an environment. Each file is complete: it
# installs with `pip install --no-deps --require-hashes -r`. docs/adr/0003-torch-two-ways.md says why
# torch and its CUDA libraries have files of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# PyTorch's CPU builds are published beside PyPI, not on it: one wheel for each Python, under the same
# version plus "+cpu". Add a line here for another Python.
TORCH_CPU_HASHES=(
  6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b # cp311, Linux x86_64
)
# A release must be a week old: a hijacked one is usually found sooner.
DELAY="7 days"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

resolve() {
  uv pip compile --quiet --universal --python-version 3.11 --exclude-newer "$DELAY" --no-header --no-config \
    --no-emit-index-url --no-emit-find-links --generate-hashes --no-annotate "$@"
}

# Copies the blocks (a requirement and its hash lines) whose package name matches $1; with -v those that do not.
blocks() {
  local invert=0
  if [ "$1" = -v ]; then invert=1; shift; fi
  awk -v pattern="$1" -v invert="$invert" '/^[a-z0-9]/ { keep = (($0 ~ pattern) != invert) } keep' "$2"
}

write() {
  { printf '# Written by make lock from pyproject.toml. %s\n' "$2"; cat; } >"requirements/$1.txt"
}

resolve pyproject.toml --all-extras >"$work/all.txt"
groups=$(sed -n '/^\[project.optional-dependencies\]/,/^\[/s/^\([a-z]*\) = .*/\1/p' pyproject.toml)

resolve pyproject.toml -c "$work/all.txt" | write base "What serving needs."
for group in $groups; do
  resolve pyproject.toml --extra "$group" -c "$work/all.txt" >"$work/$group.txt"
done

CUDA='^(nvidia-|cuda-|triton)'
TORCH='^torch=='
write data "Base and the data group." <"$work/data.txt"
write dev "Base and the dev group." <"$work/dev.txt"
write otel "Base and the otel group." <"$work/otel.txt"
blocks -v "$CUDA|$TORCH" "$work/train.txt" | write train "Base and the train group, without torch (torch.txt, torch-cuda.txt)."
blocks "$TORCH" "$work/train.txt" | write torch "PyPI's builds: for CUDA on Linux, for CPU and Metal on macOS."
version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements/torch.txt)
{ printf 'torch==%s+cpu' "$version"; printf ' \\\n    --hash=sha256:%s' "${TORCH_CPU_HASHES[@]}"; echo; } \
  | write torch-cpu "PyTorch's CPU builds, from wherever pip is told to find them."
blocks "$CUDA" "$work/train.txt" | write torch-cuda "What PyPI's torch needs beside it on Linux: CUDA libraries, about 3 GB."

# For images (docs/docker.md): NVIDIA's compiler and libraries at the versions that torch takes, and the SBOM's tools.
cuda=$(sed -n 's/^cuda-toolkit==\([0-9.]*\).*/\1/p' requirements/torch-cuda.txt)
echo "cuda-toolkit[cublas,cudart]==$cuda" | resolve - -c "$work/all.txt" \
  | write cuda-runtime "What llama.cpp's CUDA build needs at run time, for images: docs/docker.md."
echo "cuda-toolkit[cccl,crt,cublas,cudart,nvcc,nvvm]==$cuda" | resolve - -c "$work/all.txt" \
  | write cuda-build "What compiles llama.cpp for CUDA inside an image build: docs/docker.md."
printf '%s\n' cyclonedx-bom debsbom | resolve - \
  | write sbom "What writes the list of parts (SBOM) into the images; not installed in them."
