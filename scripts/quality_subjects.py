"""The files that are measured: which they are, of which type, and that they are of one model."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import quality_figures as figures
from corral.errors import BadRequest, InvalidModel
from corral.registry import manifest as manifests
from corral.registry.gguf_header import read_header
from corral.registry.manifest import Manifest
from corral.registry.quant_types import QuantType, QuantTypes
from quant_coverage import parts


@dataclass(frozen=True)
class Subject:
    """One file to measure. `manifest` is where its figures are kept, where there is one."""

    name: str
    path: Path
    kind: QuantType
    overrides: tuple[str, ...] = ()
    manifest: Manifest | None = None


def subjects(args: argparse.Namespace, types: QuantTypes) -> list[Subject]:
    """What is to be measured: the files named, else those of the manifests in the folder."""
    if args.manifests is None:
        found = [subject_of(path, types) for path in args.models]
    else:
        names = [f"{path.stem}{manifests.SUFFIX}" for path in args.models]
        kept = [args.manifests / name for name in names]
        kept = kept or sorted(args.manifests.glob(f"*{manifests.SUFFIX}"))
        found = [_recorded(path, types) for path in kept]
    if not found:
        raise BadRequest("nothing to measure: name GGUF files, or --manifests with some in it")
    return found


def _recorded(path: Path, types: QuantTypes) -> Subject:
    kept = manifests.read(path)
    overrides = tuple(kept.settings.get("quantize", {}).get("tensor_type", ()))
    found = subject_of(path.parent / kept.of_role("weights")[0].name, types)
    return replace(found, name=kept.name, overrides=overrides, manifest=kept)


def subject_of(path: Path, types: QuantTypes) -> Subject:
    """One file by its header; InvalidModel for an adapter, or where no type is said."""
    header = read_header(path)
    if header.is_adapter:
        raise InvalidModel(f"{path} is an adapter; measure whole models", param=str(path))
    kind = types.numbered(figures.header_type(header))
    if kind is None:
        raise InvalidModel(
            f"{path} does not say of which type it is (general.file_type "
            f"{figures.header_type(header)}); quantise it with corral models quantize",
            param=str(path),
        )
    return Subject(path.stem, path, kind)


def check_same_model(base: Path, others: list[Subject]) -> None:
    """InvalidModel for a file that cannot be the base's: KL divergence would say nothing."""
    wanted = _shape(base)
    for other in others:
        if _shape(other.path) != wanted:
            raise InvalidModel(
                f"{other.path} is not a quantised {base.name}: architecture, vocabulary, tensors and "
                f"layers are {_shape(other.path)}, not {wanted}",
                param=str(other.path),
            )


def _shape(path: Path) -> tuple[str, int, int, Any]:
    header = read_header(path)
    tensors = sum(read_header(part).tensor_count for part in parts(path))
    vocabulary = header.array_lengths.get("tokenizer.ggml.tokens", 0)
    layers = header.metadata.get(f"{header.architecture}.block_count", 0)
    return header.architecture, vocabulary, tensors, layers
