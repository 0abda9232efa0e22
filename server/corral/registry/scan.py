"""Find what there is to serve: the bundled models, and GGUF files in folders."""

import tomllib
from pathlib import Path
from typing import Any

from corral.errors import InvalidModel, SettingsError
from corral.registry.catalog import SHARD, Catalog, Collector, Default, Kind, Model, shards, tame
from corral.registry.gguf_header import Header, read_header
from corral.settings import Settings

BUNDLED_LIST = "models.toml"
BUNDLED_KEYS = {
    "file", "description", "sha256", "defaults", "embeddings", "pooling", "base", "threads",
}  # fmt: skip


def scan(settings: Settings) -> Catalog:
    """Read every source; bad files become problems of the catalogue, never an exception."""
    collector = Collector()
    _bundled(settings.bundled_models_dir, collector)
    for folder in (settings.data_dir / "models", *settings.models_dirs):
        _folder(folder, collector)
    return collector.catalog(settings.aliases)


def _bundled(folder: Path, collector: Collector) -> None:
    listing = folder / BUNDLED_LIST
    if not listing.is_file():
        return
    try:
        entries = tomllib.loads(listing.read_text(encoding="utf-8")).get("models", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{listing} cannot be read: {error}") from error
    for name, entry in entries.items():
        unknown = set(entry) - BUNDLED_KEYS
        if unknown or "file" not in entry:
            raise SettingsError(f"{listing}: `{name}` needs `file` and knows no {sorted(unknown)}")
        path = folder / entry["file"]
        try:
            collector.add(_model(name, path, "bundled", entry, read_header(path)))
        except InvalidModel as error:
            collector.fail(name, path, error)


def _folder(folder: Path, collector: Collector) -> None:
    if not folder.is_dir():
        return
    files = [path for path in folder.rglob("*.gguf") if not path.name.startswith((".", "mmproj"))]
    whole, incomplete = shards(files)
    for path, message in incomplete:
        collector.fail(_name(path), path, InvalidModel(f"{path}: {message}"))
    for path in whole:
        try:
            header = read_header(path)
            collector.add(_model(_name(path), path, str(folder), _entry(header), header))
        except InvalidModel as error:
            collector.fail(_name(path), path, error)


def _name(path: Path) -> str:
    match = SHARD.match(path.stem)
    return tame(match["stem"] if match else path.stem)


def _entry(header: Header) -> dict[str, Any]:
    """What the header of a dropped file says, in the terms of the bundled list."""
    entry: dict[str, Any] = {}
    if header.is_adapter:
        base = str(header.metadata.get("general.base_model.0.name", ""))
        entry["base"] = tame(base) if base else None
    if f"{header.architecture}.pooling_type" in header.metadata:
        entry["embeddings"] = True
    return entry


def _model(name: str, path: Path, source: str, entry: dict[str, Any], header: Header) -> Model:
    kind: Kind = "base"
    if entry.get("base") or header.is_adapter:
        kind = "adapter"
    elif entry.get("embeddings"):
        kind = "embedding"
    if kind == "adapter" and not header.is_adapter:
        raise InvalidModel(f"{path} is listed as an adapter but is a whole model", param=str(path))
    defaults: dict[str, Default] = dict(entry.get("defaults", {}))
    stat = path.stat()
    return Model(
        name=name,
        kind=kind,
        path=path,
        source=source,
        created=int(stat.st_mtime),
        size=stat.st_size,
        base=entry.get("base"),
        description=entry.get("description", ""),
        sha256=entry.get("sha256"),
        architecture=header.architecture,
        context_length=header.context_length,
        pooling=entry.get("pooling"),
        threads=entry.get("threads"),
        has_chat_template="tokenizer.chat_template" in header.metadata,
        defaults=defaults,
    )
