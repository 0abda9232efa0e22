"""Check that serving sees what training saw: the gate between a trained adapter and its publication.

    python scripts/check_parity.py --model base.gguf --adapter adapter.gguf --rows build/rows --file train.jsonl \\
      --checkpoint build/adapter.work/ckpt-step-120

Starts a private llama-server with base and adapter and compares, for rows spread over the file:
the token ids of each prompt and answer as it makes them with the ids that training used; the prompt
length that /v1/chat/completions counts; that each learned turn ends with a token that ends generation;
that the adapter's tensors are PEFT's; that the adapter changes the probabilities of the answers, and
changes them as it did in training. The rows are read from FILE here, not by the code that rendered
them. Exit status 3, and what differs where, when anything does.
"""

import argparse
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

import stage
from corral.datasets.tokenizer import Tokenizer
from corral.errors import GateError, InvalidData, ToolError
from corral.settings import load as load_settings
from llama_scores import Scorer
from llama_tools import LlamaTools
from private_server import PrivateServer
from token_rows import TokenRow, TokenRows

ROWS = 32
COUNTED = 3  # prompts that are also asked through /v1/chat/completions
# Mean difference of log-probabilities from torch's that rounding explains, and what share of the adapter's effect.
ROUNDING, OF_EFFECT = 0.05, 0.1
LEAST_EFFECT = 1e-4
# Else llama-server leaves the end of the last answer away for the model to go on, and refuses one that is a tool's call.
WHOLE_TURNS = ("--no-prefill-assistant",)


class Parity(GateError):
    """Training and serving disagree."""

    default_code = "parity"


@dataclass(frozen=True)
class Turn:
    """A learned turn as a client would come to it: what is sent before it, and it itself."""

    before: list[dict[str, Any]]
    answer: dict[str, Any]
    tools: list[Any] | None


class Client:
    """The private server's plain HTTP routes."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._server.key}",
        }
        self._connection.request("POST", path, json.dumps(body).encode(), headers)
        reply = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(reply.read())
        if reply.status != 200:
            why = answer.get("error", {}).get("message", answer)
            raise Parity(f"llama-server refuses {path}: {why}")
        return answer

    def template(self, messages: list[dict[str, Any]], tools: list[Any] | None, ask: bool) -> str:
        body = {"messages": messages, "add_generation_prompt": ask} | (
            {"tools": tools} if tools else {}
        )
        return str(self.post("/apply-template", body)["prompt"])

    def tokens(self, text: str) -> list[int]:
        body = {"content": text, "add_special": True, "parse_special": True}
        found: list[int] = self.post("/tokenize", body)["tokens"]
        return found

    def plain_tokens(self, text: str) -> list[int]:
        """Of a text in which role markers are plain letters, less its last line end."""
        body = {"content": text.removesuffix("\n"), "add_special": True, "parse_special": False}
        found: list[int] = self.post("/tokenize", body)["tokens"]
        return found

    def prompt_tokens(self, turn: Turn) -> int:
        body: dict[str, Any] = {"messages": turn.before, "max_tokens": 1, "temperature": 0}
        if turn.tools:
            body["tools"] = turn.tools
        return int(self.post("/v1/chat/completions", body)["usage"]["prompt_tokens"])


def without_weight(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "weight"}


def turns_of(row: dict[str, Any]) -> Iterator[Turn]:
    """The learned turns of a raw row: OpenAI chat, openai-dpo or prompt and completion; none of text."""
    if "messages" in row:
        chats, first = [row["messages"]], 0
        tools = row.get("tools")
        if not tools and row.get("functions"):
            tools = [{"type": "function", "function": each} for each in row["functions"]]
    elif "input" in row:
        before, tools = row["input"]["messages"], row["input"].get("tools")
        sides = ("preferred", "non_preferred")
        ends = [row.get(f"{side}_output") or row.get(f"{side}_completion") or [] for side in sides]
        chats, first = [before + end for end in ends], len(before)
    elif "prompt" in row and "completion" in row:
        said = {"role": "assistant", "content": row["completion"]}
        chats, first, tools = [[{"role": "user", "content": row["prompt"]}, said]], 1, None
    else:
        return
    for chat in chats:
        for at, message in enumerate(chat):
            if at >= first and message["role"] == "assistant" and message.get("weight") != 0:
                yield Turn([without_weight(m) for m in chat[:at]], without_weight(message), tools)


def spans(row: TokenRow) -> list[tuple[int, int]]:
    """The learned ranges of an example."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], row.learned, [0]))))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def first_difference(found: list[int], wanted: list[int]) -> int:
    pairs = zip(found, wanted, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))


class RowCheck:
    """Compares the turns of one source line with its examples."""

    def __init__(self, client: Client, tokens: Tokenizer, where: str, rows: list[TokenRow]) -> None:
        self._client, self._tokens, self._where = client, tokens, where
        self._spans = [(row.ids.tolist(), *span) for row in rows for span in spans(row)]

    def check(self, turn: Turn) -> int:
        """Raise Parity where the turn differs; the number of its tokens."""
        text = self._client.template(turn.before, turn.tools, True)
        prompt = self._client.tokens(text)
        matching = [s for s in self._spans if s[0][: s[1]] == prompt]
        if not matching:
            self._explain(prompt)
        through = self._client.template([*turn.before, turn.answer], turn.tools, False)
        answer = through.removeprefix(text)
        whole = self._client.tokens(through)
        if not any(self._same(span, whole, answer) for span in matching):
            learned = self._shown(matching[0][0][matching[0][1] : matching[0][2]])
            raise Parity(
                f"{self._where}: training learned the answer {learned}, serving renders it as {answer[:80]!r}"
            )
        return matching[0][2]

    def _same(self, span: tuple[list[int], int, int], whole: list[int], answer: str) -> bool:
        ids, begin, end = span
        if not self._tokens.ends_turn(ids[end - 1]):
            raise Parity(
                f"{self._where}: the learned answer ends with {self._shown(ids[end - 1 : end])}, which does not end "
                "generation: the model would not learn to stop"
            )
        if whole[:end] == ids[:end]:
            return True
        # Where a token would reach over the border the answer was tokenised alone: same text, other tokens.
        pieces = b"".join(self._tokens.piece(token) for token in ids[begin : end - 1])
        rest = answer.encode().removeprefix(pieces)
        same = answer.encode().startswith(pieces)
        return same and (not rest or rest.startswith(self._tokens.piece(ids[end - 1])))

    def _explain(self, prompt: list[int]) -> None:
        if not self._spans:
            raise Parity(f"{self._where}: nothing of this row was learned")
        ids, begin, _ = max(self._spans, key=lambda s: first_difference(prompt, s[0][: s[1]]))
        at = first_difference(prompt, ids[:begin])
        raise Parity(
            f"{self._where}: prompts differ from token {at} on: training used {self._shown(ids[at : min(at + 6, begin)])}, "
            f"serving makes {self._shown(prompt[at : at + 6])}. The chat template or tokenizer is not the one the rows were "
            "rendered with; render and train again with the GGUF that serves"
        )

    def _shown(self, ids: list[int]) -> str:
        text = b"".join(map(self._tokens.piece, ids)).decode(errors="replace")
        return f"{ids} ({text!r})"


def sample(rows: TokenRows, most: int) -> list[int]:
    """Source lines spread over the rows. A cut example has no end to compare, so those are left out."""
    whole: np.ndarray = np.ones(len(rows), bool)
    if rows.facts.get("truncated"):
        whole = rows.lengths < rows.facts["longest"]
    lines = np.unique(rows.lines[whole])
    if not len(lines):
        return []
    return [
        int(line) for line in lines[np.unique(np.linspace(0, len(lines) - 1, most).astype(int))]
    ]


def read_lines(path: Path, wanted: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The raw rows on the wanted lines, in order."""
    left = set(wanted)
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number in left:
                yield number, json.loads(raw)


def check_tokens(
    client: Client, tokens: Tokenizer, rows: TokenRows, path: Path, most: int
) -> dict[str, int]:
    """Compare ids; how many rows, turns and tokens were compared."""
    counts = {"rows": 0, "turns": 0, "tokens": 0, "prompts_counted": 0}
    for line, value in read_lines(path, sample(rows, most)):
        examples = [rows[int(at)] for at in np.flatnonzero(rows.lines == line)]
        check = RowCheck(client, tokens, f"{path.name}:{line}", examples)
        for turn in turns_of(value):
            counts["tokens"] += check.check(turn)
            counts["turns"] += 1
            if counts["prompts_counted"] < COUNTED:
                _check_count(client, turn, f"{path.name}:{line}")
                counts["prompts_counted"] += 1
        counts["rows"] += 1
    if not counts["turns"]:
        raise InvalidData(
            f"{path}: no conversation on the lines that were rendered; is it the same file?"
        )
    return counts


def _check_count(client: Client, turn: Turn, where: str) -> None:
    prompt = len(client.tokens(client.template(turn.before, turn.tools, True)))
    counted = client.prompt_tokens(turn)
    if counted != prompt:
        raise Parity(
            f"{where}: /v1/chat/completions sees {counted} prompt tokens, /apply-template and /tokenize give {prompt}"
        )


def check_tensors(adapter: Path, checkpoint: Path) -> int:
    """Every tensor of PEFT's adapter is in the GGUF with the same numbers; how many. Their order within
    a tensor may differ (llama.cpp turns query and key for its rotary embedding); `check_effect` sees that."""
    from safetensors.numpy import load_file

    peft = load_file(checkpoint / "adapter_model.safetensors")
    stored = {tensor.name: tensor.data for tensor in GGUFReader(adapter).tensors}

    def key(values: np.ndarray) -> tuple[int, bytes]:
        return values.size, np.sort(values.astype(np.float16).ravel()).tobytes()

    missing = {key(values) for values in peft.values()} ^ {
        key(values) for values in stored.values()
    }
    if len(peft) != len(stored) or missing:
        raise Parity(
            f"{adapter.name} has {len(stored)} tensors, PEFT's adapter {len(peft)}, and {len(missing)} have no equal on the "
            "other side: the conversion lost something"
        )
    return len(stored)


def check_effect(
    model: Path, adapter: Path, rows: TokenRows, known: list[dict[str, Any]], libraries: Path
) -> dict[str, float]:
    """The adapter changes the answers' probabilities, and to what training said; the mean differences."""
    effect, apart = list[np.ndarray](), list[np.ndarray]()
    longest = max(int(rows.lengths[each["example"]]) for each in known)
    with Scorer(model, libraries, adapter, context=longest + 8) as scorer:
        for each in known:
            row = rows[each["example"]]
            scorer.use_adapter(True)
            tuned = scorer.logprobs(row.ids, row.learned)
            scorer.use_adapter(False)
            effect.append(np.abs(tuned - scorer.logprobs(row.ids, row.learned)))
            known_ones = np.array(each["logprobs"])
            # Relative beyond 1: in bf16 an unlikely token's log-probability is off by a share of its size.
            apart.append(np.abs(tuned - known_ones) / np.maximum(1, np.abs(known_ones)))
    moved, off = float(np.concatenate(effect).mean()), float(np.concatenate(apart).mean())
    if moved < LEAST_EFFECT:
        raise Parity(
            f"the adapter changes nothing: answers' log-probabilities move by {moved:.2g} on average. Was it trained long "
            "enough, and over this base?"
        )
    if off > max(ROUNDING, OF_EFFECT * moved):
        raise Parity(
            f"llama.cpp and torch disagree with the adapter on: log-probabilities differ by {off:.3f} on average, the "
            f"adapter's own effect is {moved:.3f}; the conversion is wrong for this architecture"
        )
    return {"adapter_effect": round(moved, 5), "difference_from_training": round(off, 5)}


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    bin_dir = args.llama_bin or load_settings().llama_bin_dir
    rows = TokenRows(args.rows)
    checked: dict[str, Any] = {}
    if args.checkpoint and args.adapter:
        checked["tensors"] = check_tensors(args.adapter, args.checkpoint)
    server = PrivateServer(LlamaTools(bin_dir), args.model, args.adapter, None, WHOLE_TURNS)
    try:
        with Tokenizer(args.model, bin_dir) as tokens, server:
            checked |= check_tokens(Client(server), tokens, rows, args.file, args.sample)
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(f"llama-server broke off during the check: {error!r}") from error
    tell.progress(1, 2, "checks", "parity")
    if args.checkpoint and args.adapter:
        known = json.loads((args.checkpoint / "parity.json").read_text("utf-8"))
        checked |= check_effect(args.model, args.adapter, rows, known, bin_dir)
    tell.progress(2, 2, "checks", "parity")
    tell.message(
        f"training and serving agree on {checked['tokens']:,} tokens of {checked['turns']:,} answers"
    )
    tell.result(checked)


if __name__ == "__main__":
    parser = stage.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the base GGUF that serves")
    parser.add_argument("--adapter", type=Path, help="the adapter, GGUF")
    parser.add_argument("--rows", type=Path, required=True, help="token rows that were trained on")
    parser.add_argument(
        "--file", type=Path, required=True, help="the JSONL they were rendered from"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="ckpt-step-N folder that the adapter was made from"
    )
    parser.add_argument(
        "--sample", type=int, default=ROWS, help=f"rows to compare (default {ROWS})"
    )
    parser.add_argument("--llama-bin", type=Path, help="folder of the built llama.cpp programs")
    stage.run(main, parser.parse_args())
