"""Importance matrices: made by llama-imatrix from a calibration text, and checked before use.

An importance matrix says how strongly each column of a weight is used. One of another model would
silently make a worse file, so its entries must be those of the model: names, sizes, every layer.
Two models of the same shape cannot be told apart by that (a tuned model may use its base's).
"""

import re
from collections.abc import Callable
from pathlib import Path

from corral.errors import InvalidData, InvalidModel
from corral.registry.gguf_header import Tensor, read_header
from llama_tools import LlamaToolError, LlamaTools
from quant_coverage import parts

IMATRIX = "llama-imatrix"
CALIBRATION = Path(__file__).with_name("calibration.txt")
SUMS = ".in_sum2"
LAYER = re.compile(r"blk\.(\d+)\.")
CHUNKS = re.compile(r"computing over (\d+) chunks")
CHUNK = re.compile(r"\[(\d+)\]-?[\d.]+,")
TOO_SHORT = re.compile(r"tokenizes to only (\d+) tokens")
SKIPPED_LAYERS = 0.1  # of experts and the like that no token of the calibration text came to

OnChunk = Callable[[int, int], None]


def command(
    tools: LlamaTools, model: Path, text: Path, out: Path, ctx: int, threads: int | None
) -> list[str]:
    """The llama-imatrix command line. Markers in the text become their own tokens, as in serving."""
    argv = tools.argv(IMATRIX, "-m", model, "-f", text, "-o", out, "-c", ctx)
    # GGUF whatever the name, which ends in .part while it is written.
    argv += ["--output-format", "gguf", "--parse-special"]
    return argv + (["-t", str(threads)] if threads else [])


def make(tools: LlamaTools, argv: list[str], on_chunk: OnChunk = lambda done, total: None) -> None:
    """Run `command`'s line; InvalidData when the text is too short for one chunk of two contexts."""

    def follow(text: str) -> None:
        total, done = CHUNKS.search(text), CHUNK.findall(text)
        if total and done:
            on_chunk(int(done[-1]), int(total[1]))

    text = argv[argv.index("-f") + 1]
    if not Path(text).is_file():
        raise InvalidData(f"calibration text {text} is missing", param=text)
    try:
        tools.run(argv, follow)
    except LlamaToolError as error:
        short = TOO_SHORT.search(error.output)
        if short is None:
            raise
        ctx = int(argv[argv.index("-c") + 1])
        raise InvalidData(
            f"calibration text {text} is only {short[1]} tokens of this model; at a context of {ctx} "
            f"it takes {2 * ctx}. Give a longer text or a smaller --ctx",
            param=text,
        ) from None


def check(imatrix: Path, model: Path) -> int:
    """Refuse an importance matrix that is not of `model`; how many weights it knows."""
    header = read_header(imatrix, details=True)
    entries = {
        t.name.removesuffix(SUMS): t.elements for t in header.tensors if t.name.endswith(SUMS)
    }
    if header.metadata.get("general.type") != "imatrix" or not entries:
        raise InvalidModel(
            f"{imatrix} is no importance matrix; llama-imatrix makes one. Its old .dat format is "
            f"converted by: llama-imatrix --in-file {imatrix} -o NEW.gguf",
            param="imatrix",
        )
    weights = {t.name: t for part in parts(model) for t in read_header(part, details=True).tensors}
    why = _foreign(entries, weights)
    if why:
        raise InvalidModel(
            f"the importance matrix {imatrix} is of another model: {why}. Make one of {model.name} "
            "(leave --imatrix out), or give its own",
            param="imatrix",
        )
    return len(entries)


def _foreign(entries: dict[str, int], weights: dict[str, Tensor]) -> str:
    """Why the entries cannot be of a model with these weights; empty when they can."""
    for name, elements in entries.items():
        weight = weights.get(name)
        if weight is None:
            return f"it knows `{name}`, which the model has not"
        columns = weight.shape[0] * (weight.shape[2] if len(weight.shape) > 2 else 1)
        if elements != columns:
            return f"its `{name}` has {elements} columns, the model's {columns}"
    layers, known = _layers(weights), _layers(entries)
    if len(layers - known) > SKIPPED_LAYERS * len(layers):
        return f"it knows {len(known)} layers, the model has {len(layers)}"
    return ""


def _layers(names: dict[str, int] | dict[str, Tensor]) -> set[str]:
    return {match[1] for name in names if (match := LAYER.match(name))}
