"""The YAML block at the head of a Markdown file, and what a path says."""

import datetime
import re
from pathlib import PurePosixPath
from typing import Any

from corral.datasets.sources.optional import load

_BLOCK = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)


def split(text: str) -> tuple[dict[str, Any], str]:
    """The metadata and the text after it. Raises ValueError for a block that is not YAML of a
    mapping; a text that begins with a rule (`---`) but no such block is all text."""
    match = _BLOCK.match(text)
    if not match:
        return {}, text
    yaml = load("yaml")
    try:
        # The C loader does the same, but is not on every platform; these blocks are short.
        value = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 2}" if mark else ""
        raise ValueError(f"front matter is not YAML{where}") from None
    if value is None:
        return {}, text[match.end() :]
    if not isinstance(value, dict):
        return {}, text
    return {str(key): plain(item) for key, item in value.items()}, text[match.end() :]


def of_path(path: PurePosixPath) -> dict[str, Any]:
    """What a path inside the folder says: the file, and the folders it lies in as topics."""
    metadata: dict[str, Any] = {"source": str(path)}
    if len(path.parts) > 1:
        metadata["topics"] = list(path.parts[:-1])
    return metadata


def plain(value: Any) -> Any:
    """The value as JSON can hold it: dates as text, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
