"""Small models with their manifests, for tests of the registry."""

from pathlib import Path

from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from tests.fakes.gguf_file import Value, write_adapter, write_model


def base_model(folder: Path, name: str = "tiny", text: str = "one", **more: object) -> Manifest:
    """A model of one file in `folder`; another `text` makes other content."""
    write_model(folder / f"{name}.gguf", {"general.description": text})
    fields = {"name": name, "files": [ManifestFile(name=f"{name}.gguf")], **more}
    return Manifest.model_validate(fields)


def adapter(folder: Path, name: str = "tuned", base: str = "tiny", sha256: str = "") -> Manifest:
    """A LoRA adapter over `base`."""
    file = name.replace(":", "_") + ".gguf"
    write_adapter(folder / file, base)
    files = (ManifestFile(name=file, role="adapter"),)
    return Manifest(name=name, kind="adapter", files=files, base=BaseOf(name=base, sha256=sha256))


def split_model(folder: Path, name: str = "big", count: int = 3) -> Manifest:
    """A model of several shards."""
    files = []
    for index in range(1, count + 1):
        file = f"{name}-{index:05}-of-{count:05}.gguf"
        values: dict[str, Value] = {"split.count": count, "split.no": index - 1}
        write_model(folder / file, values)
        files.append(ManifestFile(name=file))
    return Manifest(name=name, files=tuple(files))
