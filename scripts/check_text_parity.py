"""Check that serving sees what llama-finetune saw: the gate between a model it trained and the publication.

    python scripts/check_text_parity.py --base models/corral-tiny.gguf --model build/tuned.gguf --work build/tuned.work

Compares: everything but the weights of MODEL (tokenizer, chat template, context) with BASE's; the token
ids of the text as a private llama-server over MODEL makes them with those of training, and their number
with the windows that the program counted; the loss over the windows it measured last, by the libraries
that serve, with what it said; and MODEL's probabilities there with BASE's. WORK is the training's folder. Exit status
3, and what differs, when anything does.
"""

import argparse
import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

import stage
from check_parity import LEAST_EFFECT, Client, Parity, first_difference
from corral.errors import ToolError
from corral.settings import load as load_settings
from engines.llama_engine import CONTEXT, STRIDE, TEXT, tokens_of, windows_of
from engines.work_folder import PARITY
from llama_scores import Scorer
from llama_tools import LlamaTools
from private_server import PrivateServer

# Characters of the text that go to the server.
SENT = 1_000_000
# Float32 in training, a key-value cache of 16 bits in serving: 0.00001 measured (docs/log.md).
ROUNDING = 0.005


def check_metadata(base: Path, model: Path) -> int:
    """Every field of the header but the weights' place is the base's; how many."""
    ours, theirs = (
        {n: f.contents() for n, f in GGUFReader(p).fields.items()} for p in (model, base)
    )
    differ = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
    if differ:
        raise Parity(f"{model.name} differs from its base in {', '.join(differ)}")
    return len(ours)


def check_tokens(client: Client, text: str, base: Path, llama_bin: Path) -> int:
    """The same ids from the server and from the base's tokenizer; how many."""
    wanted, found = tokens_of(text, base, llama_bin), client.plain_tokens(text)
    if found != wanted:
        at = first_difference(found, wanted)
        raise Parity(
            f"the text's tokens differ from number {at} on: training used {wanted[at : at + 6]}, "
            f"serving makes {found[at : at + 6]}"
        )
    return len(wanted)


def check_windows(tokens: list[int], counted: dict[str, int]) -> list[np.ndarray]:
    """The windows that training measured, each with the token after it."""
    every = windows_of(len(tokens))
    if every != sum(counted.values()):
        raise Parity(
            f"the text makes {every} windows, training counted {sum(counted.values())}: it read other tokens"
        )
    begins = range(counted["train"] * STRIDE, every * STRIDE, STRIDE)
    return [np.array(tokens[begin : begin + CONTEXT + 1]) for begin in begins]


def check_losses(
    windows: list[np.ndarray], base: Path, model: Path, said: float, llama_bin: Path
) -> dict[str, float]:
    """The loss that training said, and another than the base's; the differences."""
    before, after = (logprobs(path, windows, llama_bin) for path in (base, model))
    moved, off = float(np.abs(after - before).mean()), abs(float(-after.mean()) - said)
    if moved < LEAST_EFFECT:
        raise Parity(
            f"training changed nothing: the text's log-probabilities move by {moved:.2g} on average"
        )
    if off > ROUNDING:
        raise Parity(
            f"training measured a loss of {said:.4f} over its last windows, serving gives {-after.mean():.4f}: the "
            "model that serves is not the one that was trained"
        )
    return {"effect": round(moved, 5), "difference_from_training": round(off, 5)}


def logprobs(model: Path, windows: list[np.ndarray], llama_bin: Path) -> np.ndarray:
    """log p of every token of the windows but each first one."""
    with Scorer(model, llama_bin, context=CONTEXT + 8) as scorer:
        found = [scorer.logprobs(ids, np.ones(len(ids), bool)) for ids in windows]
    made: np.ndarray = np.concatenate(found)
    return made


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    llama_bin = args.llama_bin or load_settings().llama_bin_dir
    text = (args.work / TEXT).read_text("utf-8")
    said = json.loads((args.work / PARITY).read_text("utf-8"))
    checked: dict[str, Any] = {"fields": check_metadata(args.base, args.model)}
    try:
        with PrivateServer(LlamaTools(llama_bin), args.model, None, None) as server:
            checked["tokens"] = check_tokens(Client(server), text[:SENT], args.base, llama_bin)
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(f"llama-server broke off during the check: {error!r}") from error
    tell.progress(1, 2, "checks", "parity")
    windows = check_windows(tokens_of(text, args.base, llama_bin), said["windows"])
    checked |= check_losses(
        windows, args.base, args.model, said["metrics"]["valid_loss"], llama_bin
    )
    tell.progress(2, 2, "checks", "parity")
    tell.message(
        f"training and serving agree on {checked['tokens']:,} tokens of text, and on the loss over the last "
        f"{len(windows):,} windows"
    )
    tell.result(checked)


if __name__ == "__main__":
    parser = stage.parser(__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the GGUF that was trained")
    parser.add_argument("--model", type=Path, required=True, help="the GGUF that will serve")
    parser.add_argument("--work", type=Path, required=True, help="work folder of the training")
    parser.add_argument("--llama-bin", type=Path, help="folder of the built llama.cpp programs")
    stage.run(main, parser.parse_args())
