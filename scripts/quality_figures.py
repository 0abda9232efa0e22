"""What llama.cpp's own tools measure of a model: perplexity, KL divergence, speed.

llama-perplexity saves the unquantised model's probabilities once; every other file is then compared
with them token by token. KL divergence says how far a file's predictions are from the original's
(0: the same), whatever the text; perplexity says how well it predicts this text.

The tokens come from the unquantised model alone, so one copy of it (`plain_markers`) decides them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.errors import InvalidData, ToolError
from corral.registry.gguf_header import Header, read_header
from llama_tools import LlamaTools, make_room
from quant_coverage import parts

PERPLEXITY, BENCH = "llama-perplexity", "llama-bench"
BATCH = 2048
CHUNKS = re.compile(r"(?:calculating perplexity|computing) over (\d+) chunks")
CHUNK = re.compile(r"\[(\d+)\]-?[\d.]+(?:nan)?,|^ +(\d+) +[\d.]+ ±", re.M)
RUNNING = re.compile(r"\[\d+\]([\d.]+),")
FINAL = re.compile(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)")
TOO_SHORT = re.compile(r"tokenizes to only (\d+) tokens")
# llama.cpp's logger is not flushed when a program ends (common/log.cpp says so): on a busy machine the end of
# the output may be missing. The table's last line has all that decides; what follows adds digits and the tail.
TABLE_LINE = re.compile(
    r"^ *\d+ +(?P<ppl>[\d.]+) ± +\S+ +-?\S+ ± +\S+ +(?P<kld_mean>-?[\d.]+) ± .*?%"
    r" +(?P<same_top>[\d.]+) ± +[\d.]+ %",
    re.M,
)
STATISTICS = {
    "ppl": re.compile(r"Mean PPL\(Q\) *: *([\d.]+) "),
    "kld_mean": re.compile(r"Mean +KLD: *(-?[\d.]+) "),
    "kld_99": re.compile(r"99\.0% +KLD: *(-?[\d.]+)\n"),
    "kld_max": re.compile(r"Maximum KLD: *(-?[\d.]+)\n"),
}
BENCH_PROMPT, BENCH_TOKENS = 128, 64
# Runs until one has printed every window.
ATTEMPTS = 4

OnChunk = Callable[[int, int], None]


@dataclass(frozen=True)
class Text:
    """What is measured on: a file, in windows of `ctx` tokens, the first `chunks` of them."""

    path: Path
    ctx: int
    chunks: int | None


def base_command(
    tools: LlamaTools, model: Path, text: Text, logits: Path, threads: int | None
) -> list[str]:
    """llama-perplexity over the unquantised model, saving what it predicts."""
    some = ["--chunks", text.chunks] if text.chunks else []
    where = ["-f", text.path, *_window(text.ctx, threads), *some]
    return tools.argv(PERPLEXITY, "-m", model, *where, "--kl-divergence-base", logits)


def kld_command(
    tools: LlamaTools, model: Path, text: Text, logits: Path, threads: int | None
) -> list[str]:
    """llama-perplexity over another file of the model, against what was saved."""
    compared = ["--kl-divergence", "--kl-divergence-base", logits]
    return tools.argv(PERPLEXITY, "-m", model, *_window(text.ctx, threads), *compared)


def bench_command(tools: LlamaTools, model: Path, threads: int | None) -> list[str]:
    """llama-bench: reading a prompt, then writing, three times each."""
    count = ["-t", threads] if threads else []
    sizes = ["-p", BENCH_PROMPT, "-n", BENCH_TOKENS, "-r", 3]
    return tools.argv(BENCH, "-m", model, *sizes, *count, "-o", "json")


def _window(ctx: int, threads: int | None) -> list[object]:
    # It wants the batch to be a multiple of the context, or less.
    batch = ctx * max(1, BATCH // ctx)
    return ["-c", ctx, "-b", batch, *(["-t", threads] if threads else [])]


def base_perplexity(
    tools: LlamaTools, argv: list[str], model: Path, text: Text, logits: Path, on_chunk: OnChunk
) -> float:
    """Run `base_command`; the perplexity. The room for the saved probabilities is checked as soon
    as llama-perplexity says how many windows there are."""
    vocabulary = read_header(parts(model)[0]).array_lengths.get("tokenizer.ggml.tokens", 0)
    asked = False

    def follow(said: str) -> None:
        nonlocal asked
        total = CHUNKS.search(said)
        if total and not asked:
            asked = True
            needed = saved_bytes(int(total[1]), text.ctx, vocabulary)
            what = f"saving what {model.name} predicts over {total[1]} windows of {text.ctx} tokens"
            make_room(logits.parent, needed, what)
        _tell(said, on_chunk)

    said = _run_whole(tools, argv, follow)
    found = FINAL.search(said)
    if found is not None:
        return float(found[1])
    if not _is_whole(said):
        raise _no_figure(said, text)
    return float(RUNNING.findall(said)[-1])


def _run_whole(tools: LlamaTools, argv: list[str], on_text: Callable[[str], None]) -> str:
    """What the program prints, of a run whose last window was not lost."""
    for _ in range(ATTEMPTS):
        said = tools.run(argv, on_text)
        if _is_whole(said) or CHUNKS.search(said) is None:
            break
    return said


def _is_whole(said: str) -> bool:
    """Whether the last window is there."""
    total, done = CHUNKS.search(said), CHUNK.findall(said)
    return bool(total and done) and int(done[-1][0] or done[-1][1]) == int(total[1])  # type: ignore[index]


def saved_bytes(chunks: int, ctx: int, vocabulary: int) -> int:
    """Length of the file of saved probabilities: 16 bits for each entry of the vocabulary, for the
    second half of each window, and the tokens."""
    row = 2 * ((vocabulary + 1) // 2) + 4
    return 20 + chunks * (ctx * 4 + (ctx - 1 - ctx // 2) * row * 2)


def divergence(tools: LlamaTools, argv: list[str], on_chunk: OnChunk) -> dict[str, float]:
    """Run `kld_command`; perplexity, KL divergence (mean, and its tail where it was printed), and
    how often both files hold the same token for the likeliest, as a share."""
    said = _run_whole(tools, argv, lambda said: _tell(said, on_chunk))
    figures = parse_divergence(said)
    if not _is_whole(said):
        raise ToolError(
            f"{PERPLEXITY} lost the end of its table {ATTEMPTS} times; try again when the machine is less busy"
        )
    return figures


def parse_divergence(said: str) -> dict[str, float]:
    """The figures in what llama-perplexity prints; ToolError when there are none."""
    lines = list(TABLE_LINE.finditer(said))
    if not lines:
        raise ToolError(
            f"{PERPLEXITY} printed no figures; are both files of one model? Last lines: "
            f"{'; '.join(said.strip().splitlines()[-3:])}"
        )
    figures = {name: float(value) for name, value in lines[-1].groupdict().items()}
    figures["same_top"] = round(figures["same_top"] / 100, 5)
    found = {name: pattern.search(said) for name, pattern in STATISTICS.items()}
    return {**figures, **{name: float(match[1]) for name, match in found.items() if match}}


def parse_bench(said: str) -> dict[str, float]:
    """Tokens per second of llama-bench's JSON: `tokens_per_second` written, `prompt_…` read."""
    start, end = said.find("["), said.rfind("]")
    try:
        runs = json.loads(said[start : end + 1])
    except ValueError:
        raise ToolError(f"{BENCH} printed no JSON: {said.strip()[-200:]}") from None
    speeds = {bool(run["n_gen"]): round(float(run["avg_ts"]), 1) for run in runs}
    if set(speeds) != {True, False}:
        raise ToolError(f"{BENCH} measured {len(runs)} of the two speeds")
    return {"tokens_per_second": speeds[True], "prompt_tokens_per_second": speeds[False]}


def _tell(said: str, on_chunk: OnChunk) -> None:
    total, done = CHUNKS.search(said), CHUNK.findall(said)
    if total and done:
        on_chunk(int(done[-1][0] or done[-1][1]), int(total[1]))


def _no_figure(said: str, text: Text) -> Exception:
    short = TOO_SHORT.search(said)
    if short:
        return InvalidData(
            f"evaluation text {text.path} is only {short[1]} tokens of this model; at a context of "
            f"{text.ctx} it takes {2 * text.ctx}. Give a longer text or a smaller --ctx",
            param=str(text.path),
        )
    return ToolError(f"{PERPLEXITY} printed no estimate: {said.strip()[-200:]}")


def header_type(header: Header) -> int:
    """`general.file_type`; -1 when the file does not say."""
    value = header.metadata.get("general.file_type", -1)
    return value if isinstance(value, int) else -1
