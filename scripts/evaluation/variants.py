"""Models to compare: served names, or GGUF files that a private llama-server opens for the while."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import BadRequest, InvalidModel
from evaluation.asking import Asked, run
from evaluation.summary import Judged
from llama_scores import Scorer
from llama_tools import LlamaTools
from private_server import PrivateServer
from token_rows import TokenRows


@dataclass(frozen=True)
class Variant:
    """One model: a name served at the URL, or a GGUF with an adapter over it or none."""

    label: str
    name: str = ""
    model: Path | None = None
    adapter: Path | None = None


def parse(text: str) -> Variant:
    """`LABEL=NAME`, `LABEL=model.gguf` or `LABEL=model.gguf+adapter.gguf`."""
    label, equals, what = text.partition("=")
    if not equals or not label or not what:
        raise BadRequest(
            f"--variant {text!r} must be LABEL=model.gguf, LABEL=model.gguf+adapter.gguf or LABEL=served-name",
            param="variant",
        )
    if ".gguf" not in what:
        return Variant(label, name=what)
    model, _, adapter = what.partition(".gguf+")
    files = [Path(model if model.endswith(".gguf") else model + ".gguf")]
    files += [Path(adapter)] if adapter else []
    for path in files:
        if not path.is_file():
            raise InvalidModel(f"--variant {label}: {path} is no file", param="variant")
    return Variant(label, model=files[0], adapter=files[1] if adapter else None)


def judged(
    variant: Variant, rows: list[dict[str, Any]], asked: Asked, tools: LlamaTools, tell: Any
) -> Judged:
    """Ask one variant every row."""
    if variant.model is None:
        return _timed(variant.label, rows, _with(asked, variant.name), tell)
    with PrivateServer(tools, variant.model, variant.adapter, None) as server:
        there = Asked(server.url, variant.label, server.key, asked.max_tokens, asked.concurrency)
        return _timed(variant.label, rows, there, tell)


def _with(asked: Asked, name: str) -> Asked:
    return Asked(asked.url, name, asked.api_key, asked.max_tokens, asked.concurrency)


def _timed(label: str, rows: list[dict[str, Any]], asked: Asked, tell: Any) -> Judged:
    begin = time.monotonic()
    outcomes = asyncio.run(run(asked, rows, tell))
    return Judged(label, outcomes, time.monotonic() - begin)


def losses(
    variants: list[Variant], file: Path, most: int | None, tools: LlamaTools, tell: Any
) -> dict[str, float]:
    """Mean -log p over the learned tokens of the file's rows, for each variant that is a GGUF: by
    llama.cpp's own libraries, so that quantised weights count as they serve."""
    from render_data import render_file

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="corral-evaluate-") as folder:
        for variant in variants:
            if variant.model is None:
                continue
            place = Path(folder) / "rows"
            render_file(variant.model, file, place, tools.folder, tell, too_long="drop")
            rows = TokenRows(place)
            found[variant.label] = _loss(variant, rows, most, tools, tell)
    return found


def _loss(
    variant: Variant, rows: TokenRows, most: int | None, tools: LlamaTools, tell: Any
) -> float:
    assert variant.model is not None
    count = min(len(rows), most or len(rows))
    context = int(rows.lengths[:count].max()) + 8
    total, learned = 0.0, 0
    with Scorer(variant.model, tools.folder, variant.adapter, context) as scorer:
        for number in range(count):
            logprobs = scorer.logprobs(*rows[number])
            total, learned = total - float(logprobs.sum()), learned + len(logprobs)
            tell.progress(number + 1, count, "rows", f"loss of {variant.label}")
    return round(total / max(learned, 1), 6)
