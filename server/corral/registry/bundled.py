"""The list of the models that come with Corral: `models.toml` in the bundled folder."""

import tomllib
from pathlib import Path
from typing import Any

from corral.errors import SettingsError

BUNDLED_LIST = "models.toml"
BUNDLED_KEYS = {
    "file", "description", "sha256", "defaults", "embeddings", "pooling", "base", "threads",
}  # fmt: skip


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> what the list says of it; empty without a list, SettingsError for a wrong one."""
    listing = folder / BUNDLED_LIST
    if not listing.is_file():
        return {}
    try:
        found = tomllib.loads(listing.read_text(encoding="utf-8")).get("models", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{listing} cannot be read: {error}") from error
    for name, entry in found.items():
        unknown = set(entry) - BUNDLED_KEYS
        if unknown or "file" not in entry:
            raise SettingsError(f"{listing}: `{name}` needs `file` and knows no {sorted(unknown)}")
    return dict(found)
