"""A folder of documents as training text: which files, their text, their metadata, their chunks.

Links that lead out of the folder are not followed, hidden files are passed over unless asked for,
and a file that cannot be read is a finding with its name and the reason; the rest goes on.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from corral.datasets import containers, formats
from corral.datasets.findings import Findings, Place
from corral.datasets.rows import Row
from corral.datasets.sources import chunks, documents, front_matter
from corral.datasets.sources.chunks import Chunk, Length, Plan
from corral.errors import Conflict, InvalidData


class Passage(msgspec.Struct, frozen=True):
    """A chunk of one document, with what is known about it."""

    text: str
    metadata: dict[str, Any]


class Options(msgspec.Struct, frozen=True):
    """How a folder is read. `headings`: a chunk from the middle of a section begins with the
    headings it lies under."""

    plan: Plan
    hidden: bool = False
    headings: bool = True
    max_file_bytes: int = documents.MAX_FILE_BYTES


class Reading(msgspec.Struct):
    """What became of a folder."""

    files: int = 0
    unreadable: int = 0
    passed_over: int = 0
    chunks: int = 0


def find(folder: Path, *, hidden: bool, findings: Findings, reading: Reading) -> Iterator[Path]:
    """The documents in a folder, in order of their paths. Raises InvalidData for no folder."""
    root = folder.resolve()
    if not root.is_dir():
        raise InvalidData(f"{folder} is no folder", param=str(folder))
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith(".") and not hidden:
                continue
            if path.suffix.lower() not in documents.suffixes():
                reading.passed_over += 1
            elif not path.resolve().is_relative_to(root):
                reading.unreadable += 1
                _complain(
                    findings, root, path, "link_outside", "a link that leads out of the folder"
                )
            else:
                yield path


def passages(
    folder: Path,
    options: Options,
    findings: Findings,
    reading: Reading,
    length: Length = len,
    progress: Callable[[int], object] = lambda files: None,
) -> Iterator[Passage]:
    """The chunks of every document in a folder."""
    root = folder.resolve()
    for path in find(folder, hidden=options.hidden, findings=findings, reading=reading):
        progress(1)
        inside = PurePosixPath(path.relative_to(root).as_posix())
        try:
            text = documents.to_text(read(path, options.max_file_bytes), path.suffix.lower())
            found, body = _front_matter(text, path.suffix.lower())
        except (documents.Unreadable, ValueError) as error:
            reading.unreadable += 1
            _complain(findings, root, path, "unreadable", str(error))
            continue
        reading.files += 1
        metadata = {**found, **front_matter.of_path(inside)}
        for number, chunk in enumerate(chunks.cut(body, options.plan, length), 1):
            reading.chunks += 1
            yield passage(chunk, number, metadata, options)


def passage(chunk: Chunk, number: int, metadata: dict[str, Any], options: Options) -> Passage:
    """A chunk with its metadata, and with its headings where it does not show them itself."""
    text = chunk.text
    if options.headings and chunk.headings and not text.startswith("#"):
        text = f"{' > '.join(chunk.headings)}\n\n{text}"
    own = {**metadata, "chunk": number}
    return Passage(text, {**own, "headings": list(chunk.headings)} if chunk.headings else own)


def read(path: Path, most: int) -> bytes:
    """A file's bytes. Raises Unreadable for one that is too big or may not be read."""
    try:
        if not path.is_file():
            raise documents.Unreadable("not a regular file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise documents.Unreadable(error.strerror or str(error)) from None
    if len(data) > most:
        size = path.stat().st_size
        raise documents.Unreadable(
            f"{size:,} bytes; at most {most:,} are taken (--max-file-mb), or split the file"
        )
    return data


def _front_matter(text: str, suffix: str) -> tuple[dict[str, Any], str]:
    return front_matter.split(text) if suffix in (".md", ".markdown", ".txt") else ({}, text)


def _complain(findings: Findings, root: Path, path: Path, code: str, message: str) -> None:
    Place(findings, str(path.relative_to(root))).warning("", code, message)


def write_texts(
    found: Iterable[Passage],
    out: Path,
    to: str,
    findings: Findings,
    *,
    metadata: bool = True,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> int:
    """Passages as rows of text, in any container, all or nothing; how many there are."""
    if out.exists() and not overwrite:
        raise Conflict(f"{out} exists; --overwrite replaces it", param=str(out))
    place, format = Place(findings, str(out)), formats.get(to)
    with containers.create(out, place) as writer:
        for passage in found:
            extra = {"metadata": passage.metadata} if metadata else None
            value = format.write(Row("text", text=passage.text, extra=extra), place)
            if value is not None and writer.write(value):
                progress(1)
        if not writer.rows:
            raise InvalidData(f"no document gave a row of {to}; nothing was written")
        writer.commit()
        return writer.rows
