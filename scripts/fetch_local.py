"""A model that is already on this machine: one GGUF file, or any of its shards."""

from pathlib import Path

from corral.errors import BadRequest, InvalidModel
from corral.registry.local_files import describe
from fetch_place import Fetched, Part, hash_file


def fetch(path: Path, sha256: str, base: str) -> Fetched:
    """The file with all its shards. It is copied later, not linked: its owner may write into it."""
    if not path.is_file():
        raise BadRequest(f"{path} is no file; give the path of a GGUF file", param="file")
    files = describe([path.absolute()], None, base or None).paths
    if sha256:
        check_hash(path, sha256, len(files))
    parts = tuple(Part(file, name) for name, file in files.items())
    return Fetched(parts, {"kind": "file", "file": path.name})


def check_hash(path: Path, sha256: str, shards: int) -> None:
    """Raise unless the file has that checksum."""
    if shards > 1:
        raise BadRequest("--sha256 is of one file, this model has several shards; leave it away")
    found = hash_file(path)
    if found != sha256.lower():
        raise InvalidModel(f"{path} has the sha256 {found}, not {sha256.lower()}; get it again")
