"""Describe GGUF files that a person names, as a manifest that the registry takes."""

from dataclasses import dataclass
from pathlib import Path

from corral.errors import BadRequest, InvalidModel
from corral.registry.catalog import SHARD, shards, tame
from corral.registry.gguf_header import Header, read_header
from corral.registry.manifest import BaseOf, Manifest, ManifestFile, Role


@dataclass(frozen=True)
class LocalModel:
    """A manifest, and where each of its files is now."""

    manifest: Manifest
    paths: dict[str, Path]

    def link_into(self, folder: Path) -> None:
        """Put a symbolic link to each file into `folder`, under the manifest's name for it."""
        for name, path in self.paths.items():
            (folder / name).symlink_to(path.absolute())


def describe(
    files: list[Path], name: str | None, base: str | None, description: str = ""
) -> LocalModel:
    """One model from `files`: a GGUF, or its shards (one stands for all), with or without an mmproj.

    The name defaults to the file's, an adapter's base to what its header says.
    """
    paths = [path for file in files for path in _with_siblings(file)]
    paths = list(dict.fromkeys(paths))
    headers = {path: read_header(path) for path in paths}
    projectors = [path for path in paths if is_projector(headers[path])]
    main = [path for path in paths if path not in projectors]
    _check_one_model(main)
    first = headers[main[0]]
    kind = "adapter" if first.is_adapter else "embedding" if _pools(first) else "base"
    entries = {_file_name(path): path for path in (*main, *projectors)}
    roles: dict[Path, Role] = dict.fromkeys(main, "adapter" if first.is_adapter else "weights")
    roles |= dict.fromkeys(projectors, "mmproj")
    manifest = Manifest(
        name=name or model_name(main[0]),
        kind=kind,
        files=tuple(ManifestFile(name=entry, role=roles[path]) for entry, path in entries.items()),
        source={"file": str(main[0].absolute())},
        base=_base(first, main[0], base),
        description=description,
        licence=str(first.metadata.get("general.license", "")),
    )
    return LocalModel(manifest, entries)


def model_name(path: Path) -> str:
    """The name that a file's own name suggests."""
    match = SHARD.match(path.stem)
    return tame(match["stem"] if match else path.stem)


def is_projector(header: Header) -> bool:
    """Whether this is the image or audio part of a model, not the model."""
    return header.architecture == "clip" or header.metadata.get("general.type") == "mmproj"


def _with_siblings(file: Path) -> list[Path]:
    match = SHARD.match(file.stem)
    if match is None:
        return [file]
    count = int(match["count"])
    names = [f"{match['stem']}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
    there = [file.with_name(name) for name in names if file.with_name(name).exists()]
    missing = [name for name in names if not file.with_name(name).exists()]
    if missing:
        raise InvalidModel(
            f"{file}: the shard {missing[0]} is missing; put all {count} into one folder",
            param=str(file),
        )
    return there


def _check_one_model(main: list[Path]) -> None:
    if not main:
        raise BadRequest("only an mmproj file is given; name the model's GGUF too")
    whole, _ = shards(main)
    if len(whole) != 1:
        named = ", ".join(path.name for path in whole)
        raise BadRequest(f"these are {len(whole)} models: {named}; add one at a time")


def _pools(header: Header) -> bool:
    return f"{header.architecture}.pooling_type" in header.metadata


def _base(header: Header, path: Path, given: str | None) -> BaseOf | None:
    if not header.is_adapter:
        if given:
            raise BadRequest(f"{path} is a whole model, no adapter: leave --base out")
        return None
    said = str(header.metadata.get("general.base_model.0.name", ""))
    if not given and not said:
        raise BadRequest(f"the adapter {path} does not say what it belongs to; give --base NAME")
    return BaseOf(name=given or tame(said))


def _file_name(path: Path) -> str:
    """The file's own name, with what no manifest may hold made `-`."""
    match = SHARD.match(path.stem)
    if match is None:
        return f"{tame(path.stem)[:190]}.gguf"
    return f"{tame(match['stem'])[:170]}-{match['index']}-of-{match['count']}.gguf"
