"""The text on which quality is measured: conversations as the model sees them, answers where they count.

llama-perplexity cuts a text into windows of equal length and counts the second half of each. Many
models learn only the answers, so what they predict of a prompt is noise and hides what quantising
does. So each window ends with a whole conversation, whose answer fills at least half of what counts;
what room is left before it holds the end of the conversation before.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.datasets.template_server import Request, TemplateServer
from corral.errors import ToolError
from corral.registry.gguf_header import read_header
from llama_tools import LlamaTools

SERVER = "llama-server"
# A cut may fall where two tokens become one; then the next places are tried.
MOST_CUTS = 4
# With fewer windows than this the figures say little; then the conversations simply follow each other.
LEAST_WINDOWS = 8


@dataclass(frozen=True)
class Piece:
    """One conversation: its text, its tokens as text, and how many of them are the answer."""

    text: str
    tokens: tuple[str, ...]
    answer: int


def evaluation_text(
    tools: LlamaTools, model: Path, rows: Sequence[dict[str, Any]], ctx: int
) -> str:
    """The rows through the model's own chat template, in windows of `ctx` tokens; where too few fill
    one, one after the other; without a chat template their contents."""
    if "tokenizer.chat_template" not in read_header(model).metadata:
        return "\n".join(turn.get("content") or "" for row in rows for turn in row["messages"])
    with TemplateServer(model, tools.path(SERVER)) as server:
        found = pieces(server, rows)
        windows = pack(found, ctx, lambda text: len(tokens(server, text)))
    if len(windows) < LEAST_WINDOWS:
        windows = [piece.text for piece in found]
    return "".join(windows)


def pieces(server: TemplateServer, rows: Sequence[dict[str, Any]]) -> list[Piece]:
    """Render and tokenise the rows by the server."""
    wholes = server.render(Request(row["messages"], row.get("tools")) for row in rows)
    prompts = server.render(
        Request(row["messages"][:-1], row.get("tools"), ask=True) for row in rows
    )
    made = []
    for whole, prompt in zip(wholes, prompts, strict=True):
        found = tokens(server, whole)
        made.append(Piece(whole, found, max(0, len(found) - len(tokens(server, prompt)))))
    return made


def tokens(server: TemplateServer, text: str) -> tuple[str, ...]:
    """The tokens of a text as texts, role markers whole; of one that is no text by itself, U+FFFD."""
    asked = {"content": text, "add_special": False, "parse_special": True, "with_pieces": True}
    body = json.dumps(asked).encode()
    try:
        status, answer = server.ask("POST", "/tokenize", body)
    except OSError:
        # The server closes a connection that was idle; the next one is new.
        status, answer = server.ask("POST", "/tokenize", body)
    if status != 200:
        raise ToolError(f"{SERVER} could not tokenise the evaluation text: status {status}")
    found = (token["piece"] for token in answer["tokens"])
    return tuple(piece if isinstance(piece, str) else "\ufffd" for piece in found)


def pack(found: Sequence[Piece], ctx: int, count: Callable[[str], int]) -> list[str]:
    """Windows of exactly `ctx` tokens, as `count` counts them; conversations that are too long, or
    whose answer is short, only lend their ends."""
    windows = []
    for number, piece in enumerate(found):
        rest = ctx - len(piece.tokens)
        if rest < 0 or 4 * piece.answer < ctx:
            continue
        window = _filled(found[number - 1].tokens, piece.text, rest, ctx, count)
        windows += [window] if window else []
    return windows


def _filled(
    before: Sequence[str], text: str, rest: int, ctx: int, count: Callable[[str], int]
) -> str:
    """The last `rest` tokens of `before`, and the text; empty where no cut gives `ctx` tokens."""
    for more in range(MOST_CUTS):
        wanted = rest + more
        window = "".join(before[len(before) - wanted :] if wanted else ()) + text
        if wanted <= len(before) and "\ufffd" not in window and count(window) == ctx:
            return window
    return ""
