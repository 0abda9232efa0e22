"""The options of `corral finetune create` as OpenAI's request. Pure but for looking at files."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from corral.cli.files_api import Files, check_readable
from corral.errors import BadRequest, CorralError

# OpenAI's own hyperparameters; every other KEY of --set is one of Corral's options.
HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
FILE_ID = "file-"

Json = dict[str, Any]


class MethodName(StrEnum):
    """How to train."""

    supervised = "supervised"
    dpo = "dpo"


def settings_of(pairs: Sequence[str]) -> Json:
    """`KEY=VALUE…` by key; a value is JSON where it can be, else text."""
    found: Json = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (equals and key):
            raise BadRequest(f"--set {pair!r} must be KEY=VALUE, like rank=16", param="set")
        if key in found:
            raise BadRequest(f"--set {key} was given twice", param="set")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def metadata_of(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE…` by key, all text."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise BadRequest(f"--metadata {wrong[0]!r} must be KEY=VALUE", param="metadata")
    return found


def request_of(
    *,
    model: str,
    method: str,
    suffix: str | None,
    seed: int | None,
    epochs: int | None,
    engine: str | None,
    options: Json,
    metadata: dict[str, str],
) -> Json:
    """The body of POST /v1/fine_tuning/jobs but for its files. An option that stands for a key of
    --set must not be given beside it."""
    named = {"n_epochs": epochs, "engine": engine}
    for key, value in named.items():
        if value is not None and key in options:
            raise BadRequest(f"{key} was given twice: as an option and with --set", param="set")
    options = options | {key: value for key, value in named.items() if value is not None}
    hyper = {key: options.pop(key) for key in HYPERPARAMETERS if key in options}
    request: Json = {"model": model, "suffix": suffix, "seed": seed, "metadata": metadata or None}
    request |= {"method": {"type": method, method: {"hyperparameters": hyper}}, "corral": options}
    return {key: value for key, value in request.items() if value is not None}


@contextmanager
def files_of(files: Files, given: dict[str, str | None]) -> Iterator[dict[str, str]]:
    """Ids for what is given: ids stay, files of this machine are added, and removed again when the
    block fails."""
    for name, value in given.items():
        if value and not _is_id(value):
            check_readable(Path(value), name)
    added: list[str] = []
    try:
        ids = {}
        for name, value in given.items():
            if value and _is_id(value):
                ids[name] = value
            elif value:
                ids[name] = files.add(Path(value), "fine-tune")["id"]
                added.append(ids[name])
        yield ids
    except BaseException:
        for file_id in added:
            _remove(files, file_id)
        raise


def _is_id(value: str) -> bool:
    return value.startswith(FILE_ID) and not Path(value).exists()


def _remove(files: Files, file_id: str) -> None:
    try:
        files.remove(file_id)
    except CorralError:
        return  # what failed first is told; `corral files ls` shows what is left
