"""Find what there is to serve: the bundled models, the registry's, and GGUF files in folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.errors import InvalidModel
from corral.registry import bundled
from corral.registry.catalog import (
    SHARD,
    WITH_TOOLS,
    Catalog,
    Collector,
    Default,
    Kind,
    Model,
    shards,
    tame,
)
from corral.registry.gguf_header import Header, read_header
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.registry.artifact import Artifact

REGISTRY = "registry"


def scan(settings: Settings) -> Catalog:
    """Read every source; bad files become problems of the catalogue, never an exception."""
    collector = Collector()
    _bundled(settings.bundled_models_dir, collector)
    aliases = _registry(settings, collector)
    for folder in (settings.data_dir / "models", *settings.models_dirs):
        _folder(folder, collector)
    return collector.catalog({**_still_meant(settings.aliases, aliases), **aliases})


def _still_meant(given: Mapping[str, str], made: Mapping[str, str]) -> dict[str, str]:
    """The aliases of the settings; what a name meant for requests with tools ends when it is made to mean another."""
    return {a: t for a, t in given.items() if a.removesuffix(WITH_TOOLS) not in made}


def _bundled(folder: Path, collector: Collector) -> None:
    for name, entry in bundled.entries(folder).items():
        path = folder / entry["file"]
        try:
            collector.add(_model(name, path, "bundled", entry, read_header(path)))
        except InvalidModel as error:
            collector.fail(name, path, error)


def _registry(settings: Settings, collector: Collector) -> dict[str, str]:
    """Take the registry's models; its aliases. Without a database nothing of it is even imported."""
    file = settings.database_file
    if file is not None and not file.exists():
        return {}
    from corral.registry.store import Registry

    registry = Registry(settings)
    for artifact in registry.list():
        missing = [path for path in map(artifact.path, artifact.main) if not path.is_file()]
        if missing:
            message = f"{missing[0]} is missing; `corral models verify {artifact.name}` says more"
            collector.fail(artifact.name, missing[0], InvalidModel(message))
        else:
            collector.add(_registered(artifact))
    return registry.aliases()


def _registered(artifact: "Artifact") -> Model:
    """An artifact as a model. Its header was read when it was added, and is not read again."""
    manifest = artifact.manifest
    projectors = manifest.of_role("mmproj")
    base = manifest.base if manifest.kind == "adapter" else None
    return Model(
        name=artifact.name,
        kind=manifest.kind,
        path=artifact.weights,
        source=REGISTRY,
        created=int(manifest.created.timestamp()) if manifest.created else 0,
        size=sum(file.bytes for file in artifact.main),
        base=base.name if base else None,
        base_sha256=(base.sha256 or None) if base else None,
        description=manifest.description,
        sha256=artifact.main[0].sha256,
        architecture=artifact.facts.get("architecture", ""),
        context_length=artifact.facts.get("context_length"),
        mmproj=artifact.path(projectors[0]) if projectors else None,
        has_chat_template=bool(artifact.facts.get("chat_template")),
        defaults=dict(manifest.defaults),
        owner=manifest.owner,
    )


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
        modified=stat.st_mtime_ns,
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
