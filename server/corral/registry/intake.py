"""What must hold before an artifact is taken in: its name, its files, what their headers say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corral.errors import InvalidModel
from corral.registry.blobs import BlobStore
from corral.registry.catalog import SHARD, allowed_name, shards
from corral.registry.gguf_header import Header, read_header
from corral.registry.manifest import Manifest, ManifestFile, Role

# What is read as GGUF whatever its name; other files (reports, old imatrix files) are only stored.
GGUF_ROLES = ("weights", "adapter", "mmproj")
NAME_RULE = "1 to 200 letters, digits, `.`, `_`, `-`; the first a letter or digit"
ADAPTER_RULE = NAME_RULE.replace("`-`", "`-`, `:`")

Facts = dict[str, Any]


def check_name(name: str, kind: str) -> None:
    """Raise InvalidModel unless an artifact of this kind may have this name."""
    if not allowed_name(name, kind):
        rule = ADAPTER_RULE if kind == "adapter" else NAME_RULE
        raise InvalidModel(f"`{name}` is no name for a model; allowed: {rule}", param="name")


def locate(manifest: Manifest, folder: Path, blobs: BlobStore) -> dict[str, Path]:
    """File name -> where it is: in `folder`, or already among the blobs by its hash."""
    names = [file.name for file in manifest.files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidModel(f"the manifest of `{manifest.name}` lists {twice[0]} twice")
    return {file.name: _locate(file, folder, blobs) for file in manifest.files}


def _locate(file: ManifestFile, folder: Path, blobs: BlobStore) -> Path:
    path = folder / file.name
    if path.is_file():
        return path
    if file.sha256 and blobs.path(file.sha256).is_file():
        return blobs.path(file.sha256)
    raise InvalidModel(f"model file {path} is missing", param=str(path))


def check(manifest: Manifest, paths: Mapping[str, Path]) -> Facts:
    """Read every header, and check that kind, files and headers agree; what serving needs to know
    of the weights."""
    headers = {
        file.name: read_header(paths[file.name])
        for file in manifest.files
        if file.role in GGUF_ROLES
    }
    main = [file.name for file in manifest.files if file.role == weights_role(manifest.kind)]
    if not main:
        raise InvalidModel(
            f"the manifest of `{manifest.name}` lists no file of the role "
            f"`{weights_role(manifest.kind)}`, which a model of the kind `{manifest.kind}` needs"
        )
    first = headers[main[0]]
    _check_kind(manifest, paths[main[0]], first)
    check_shards(main, first)
    return facts(first)


def weights_role(kind: str) -> Role:
    """The role of the files that llama-server loads for a model of this kind."""
    return "adapter" if kind == "adapter" else "weights"


def facts(header: Header) -> Facts:
    """What serving needs to know of the weights without reading them again."""
    return {
        "architecture": header.architecture,
        "context_length": header.context_length,
        "chat_template": "tokenizer.chat_template" in header.metadata,
    }


def _check_kind(manifest: Manifest, path: Path, header: Header) -> None:
    if manifest.kind == "adapter" and manifest.base is None:
        raise InvalidModel(f"adapter `{manifest.name}` names no base model", param="base")
    if manifest.kind == "adapter" and not header.is_adapter:
        raise InvalidModel(f"{path} is listed as an adapter but is a whole model", param=str(path))
    if manifest.kind != "adapter" and header.is_adapter:
        raise InvalidModel(f"{path} is listed as a model but is an adapter", param=str(path))


def check_shards(names: list[str], first: Header) -> None:
    """Raise InvalidModel unless these files are one whole model, in order."""
    parts = first.metadata.get("split.count", 1)
    declared = parts if isinstance(parts, int) and parts > 1 else 1
    if declared == len(names) == 1 and not SHARD.match(Path(names[0]).stem):
        return
    whole, incomplete = shards([Path(name) for name in names])
    if incomplete:
        raise InvalidModel(f"{incomplete[0][0]}: {incomplete[0][1]}; add all shards together")
    if len(whole) != 1 or declared != len(names) or not SHARD.match(Path(names[0]).stem):
        raise InvalidModel(
            f"{names[0]} says that it is one of {declared} parts, {len(names)} files are given; a "
            "model is one file, or all its shards under llama.cpp's names (…-00001-of-00003.gguf)"
        )
