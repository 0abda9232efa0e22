"""The download cache that llama.cpp shares with huggingface_hub: where things are, what is there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.errors import InvalidModel, NotFound
from corral.registry.hub_files import Choice, Listing, RepoFile, choose
from fetch_place import Fetched, Part, hash_file


@dataclass(frozen=True)
class Wish:
    """What is asked for: a file, or a quantisation, or the repository's best."""

    repo: str
    file: str = ""
    quant: str = ""
    mmproj: bool = True


@dataclass(frozen=True)
class Cache:
    """One repository in the hub cache, at one commit: where llama.cpp puts what."""

    root: Path
    repo: str
    commit: str

    @property
    def folder(self) -> Path:
        """The repository's own folder."""
        return self.root / f"models--{self.repo.replace('/', '--')}"

    def ready(self, file: RepoFile) -> Path:
        """A finished file, under its own name."""
        return self.folder / "snapshots" / self.commit / file.path

    def blob(self, file: RepoFile) -> Path:
        """A finished file, under its checksum."""
        return self.folder / "blobs" / file.etag

    def part(self, file: RepoFile) -> Path:
        """What there is of a file that is being fetched."""
        return self.folder / "blobs" / f"{file.etag}.downloadInProgress"

    def size(self, file: RepoFile) -> int:
        """Bytes of it that are here."""
        for path in (self.ready(file), self.blob(file), self.part(file)):
            try:
                return path.stat().st_size
            except OSError:
                continue
        return 0

    def drop(self, file: RepoFile) -> None:
        """Delete it."""
        for path in (self.ready(file), self.blob(file), self.part(file)):
            path.unlink(missing_ok=True)


def from_cache(cache: Path, wish: Wish) -> Fetched:
    """The model out of the cache alone; NotFound says what to do when it is not there."""
    folder = Cache(cache, wish.repo, "").folder
    refs = [folder / "refs" / "main", *sorted((folder / "refs").glob("*"))]
    commit = next((ref.read_text().strip() for ref in refs if ref.is_file()), "")
    here = Cache(cache, wish.repo, commit)
    files = tuple(_cached(here.folder / "snapshots" / commit)) if commit else ()
    if not files:
        raise NotFound(
            f"`{wish.repo}` is not in the cache {cache}; fetch it once without --offline, or set "
            "HF_HUB_CACHE to the cache that has it"
        )
    listing = Listing(wish.repo, commit, files)
    try:
        choice = choose(listing, wish.file, wish.quant, mmproj=wish.mmproj)
    except (NotFound, InvalidModel) as error:
        raise NotFound(f"offline, in the cache {cache}: {error.message}") from error
    return described(here, listing, choice, "", 0)


def _cached(snapshot: Path) -> Iterator[RepoFile]:
    """The files of a snapshot. The checksum is a link's target, or is taken where there are no links."""
    for path in sorted(snapshot.rglob("*.gguf")):
        if path.is_file():
            name = path.resolve().name if path.is_symlink() else hash_file(path)
            sha256, blob_id = (name, "") if len(name) == 64 else ("", name)
            yield RepoFile(
                path.relative_to(snapshot).as_posix(), path.stat().st_size, sha256, blob_id
            )


def described(
    cache: Cache, listing: Listing, choice: Choice, endpoint: str, fetched: int
) -> Fetched:
    """The parts in the cache with what the manifest shall say of them."""
    parts = tuple(
        Part(cache.ready(file), file.name, file.sha256, shared=True) for file in choice.files
    )
    source = {
        "kind": "huggingface",
        "repo": listing.repo,
        "commit": listing.commit,
        "files": [file.path for file in choice.files],
        "quant": choice.weights[0].quant,
    } | ({"endpoint": endpoint} if endpoint else {})
    return Fetched(parts, source, listing.licence, fetched)
