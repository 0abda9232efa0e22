#!/bin/bash
# Run by docker/Dockerfile while an image is made: the list of its parts as CycloneDX 1.6 JSON in
# /usr/share/sbom/corral.cdx.json. Debian's packages by debsbom, Python's by cyclonedx-py, llama.cpp and
# the bundled models, which no package manager knows, by hand; debsbom joins the three.
set -euo pipefail
tools=/mnt/bin
build=/opt/corral/build/llama/current/build-info.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cdx() { "$tools/debsbom" "$1" -t cdx --cdx-schema-version 1.6 "${@:2}"; }

cdx generate --no-recommends-deps -r / -o "$work/debian"
"$tools/cyclonedx-py" environment --pyproject /opt/corral/pyproject.toml --sv 1.6 --output-reproducible \
  -o "$work/python.cdx.json" /opt/corral/.venv/bin/python
"$tools/python" - "$build" /opt/corral/models "$work/rest.cdx.json" <<'PYTHON'
import hashlib, json, sys
from pathlib import Path

build, models, out = sys.argv[1:]
commit = json.loads(Path(build).read_text())["commit"]
parts = [{"type": "library", "name": "llama.cpp", "version": commit, "bom-ref": "llama.cpp-source",
          "purl": f"pkg:github/ggml-org/llama.cpp@{commit}", "licenses": [{"license": {"id": "MIT"}}]}]
for path in sorted(Path(models).glob("*.gguf")):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    parts.append({"type": "machine-learning-model", "name": path.stem, "version": digest[:12],
                  "bom-ref": path.name, "purl": f"pkg:generic/{path.name}?checksum=sha256:{digest}",
                  "hashes": [{"alg": "SHA-256", "content": digest}],
                  "licenses": [{"license": {"id": "Apache-2.0"}}]})
root = {"type": "application", "name": "corral-image-contents", "bom-ref": "corral-image-contents"}
Path(out).write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
                                 "metadata": {"component": root}, "components": parts}))
PYTHON
cdx merge --distro-name corral --distro-version "$(sed -n 's/^version = "\(.*\)"/\1/p' /opt/corral/pyproject.toml)" \
  -o "$work/corral" "$work/debian.cdx.json" "$work/python.cdx.json" "$work/rest.cdx.json"
mkdir -p /usr/share/sbom
cp "$work/corral.cdx.json" /usr/share/sbom/
