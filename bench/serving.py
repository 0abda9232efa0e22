"""Measure Corral beside llama.cpp's router, LiteLLM's proxy and llama-cpp-python's server.

    python -m bench.serving --model models/corral-tiny.gguf

One run, all contenders up at once, asked in turn, in a new order every round: what else the machine
does meets all of them alike. The table has medians over the rounds, the figures that are compared are
medians of what each round compares. The CPU is that of the processes before the instance (Linux).
LiteLLM and llama-cpp-python are left out, and it is said, where `--litellm` and `--bindings` do not
name them.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.load import Request, Sample, offer
from bench.report import Row, write
from bench.targets import Contest, Model, Programs, Target

TOKENS = 64
MESSAGES = [{"role": "user", "content": "The herd is kept in a corral at night. Say it again."}]
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Scenario:
    """What is asked: streams of 64 tokens, or plain requests, over so many connections at once."""

    name: str
    stream: bool
    connections: int
    requests: int

    def request(self, target: Target) -> Request:
        """The request for `target`."""
        body = {
            "model": target.model,
            "messages": MESSAGES,
            "temperature": 0,
            "max_tokens": TOKENS if self.stream else 1,
            "ignore_eos": True,
            "stream": self.stream,
        }
        return Request("/chat/completions", json.dumps(body).encode(), target.headers)


OWN = ("corral", "direct")
# Of the 150 M model's streams, 14 s each: a single pair of them swings by 8%, what is looked for is 1 or 2.
BIG_ROUNDS = 15
# Enough that one of them is a few percent.
STREAMS = [Scenario(f"{n} streams", True, n, 120) for n in (1, 8, 32)]
PLAIN = [Scenario(f"{n} plain", False, n, 400) for n in (1, 8, 32)]


class BrokeDown(Exception):
    """A target gave a wrong answer, or none."""


async def measure(target: Target, scenario: Scenario, upstream: str, number: int) -> Row:
    """Ask `target` once through the scenario, in the round `number`. Raises BrokeDown."""
    before, began = target.cpu(), time.perf_counter()
    try:
        samples = await offer(
            target.url, scenario.request(target), scenario.connections, scenario.requests
        )
    except ConnectionError as error:
        raise BrokeDown(f"{target.name}, `{scenario.name}`: {error}") from error
    wall = time.perf_counter() - began
    _check(target, scenario, samples)
    first = sorted(sample.first * 1000 for sample in samples)
    return Row(
        upstream=upstream,
        scenario=scenario.name,
        target=target.name,
        cpu_ms=(target.cpu() - before) * 1000 / len(samples),
        ttft_p50_ms=statistics.median(first),
        ttft_p99_ms=first[min(len(first) - 1, int(len(first) * 0.99))],
        per_second=sum(min(sample.events, TOKENS) or 1 for sample in samples) / wall,
        round=number,
    )


def _check(target: Target, scenario: Scenario, samples: Iterable[Sample]) -> None:
    for sample in samples:
        short = scenario.stream and sample.events < (TOKENS * 0.9 if target.exact else 2)
        if sample.status != 200 or short:
            raise BrokeDown(f"{target.name} answered {sample} to `{scenario.name}`")


async def attempt(target: Target, scenario: Scenario, upstream: str, number: int) -> list[Row]:
    """The row, or none where a peer broke down: the run goes on without it. Corral's own failure, or that
    of what all of them ask, ends the run."""
    try:
        return [await measure(target, scenario, upstream, number)]
    except BrokeDown as error:
        if target.name in OWN:
            raise SystemExit(f"error: {error}") from None
        print(f"{upstream}: {error}; left out", file=sys.stderr)
        return []


async def rounds(
    targets: list[Target], scenarios: list[Scenario], count: int, upstream: str
) -> list[Row]:
    """Every target through every scenario, `count` times, in a new order each time."""
    order, rows = random.Random(1), list[Row]()
    for target in targets:
        for scenario in scenarios:
            await attempt(target, scenario, upstream, 0)  # warm: pools filled, code paths compiled
    for number in range(1, count + 1):
        for scenario in scenarios:
            for target in order.sample(targets, len(targets)):
                rows += await attempt(target, scenario, upstream, number)
        print(f"{upstream}: round {number} of {count}", file=sys.stderr)
    return rows


def real(contest: Contest, flags: argparse.Namespace) -> tuple[list[Target], list[Target]]:
    """The contenders over the bundled model; second, those too slow for many streams."""
    model = Model(flags.model.resolve(), flags.slots, 1024, 1)
    direct = contest.direct(model)
    targets = [direct, contest.router(model), contest.corral(None, model)]
    if flags.litellm:
        targets.append(contest.litellm(flags.litellm, direct))
    single = [contest.bindings(flags.bindings, model)] if flags.bindings else []
    return targets, single


def synthetic(contest: Contest, flags: argparse.Namespace) -> list[Target]:
    """The contenders over the upstream that runs no model. The router cannot have one."""
    direct, folder = contest.synthetic()
    model = Model(flags.model.resolve(), flags.slots, 1024, 1)
    targets = [direct, contest.corral(folder, model, "corral-synthetic")]
    if flags.litellm:
        targets.append(contest.litellm(flags.litellm, direct))
    return [Target(t.name.split("-")[0], t.url, t.model, t.front, t.headers) for t in targets]


def run(flags: argparse.Namespace) -> list[Row]:
    """Start everything, measure, end everything."""
    rows: list[Row] = []
    scenarios = [s for s in STREAMS + PLAIN if not flags.only or flags.only in s.name]
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as name:
        folder = Path(name)
        if "model" in flags.upstreams:
            with Programs(folder) as programs:
                contest = Contest(programs, folder, flags.llama_bin_dir)
                targets, single = real(contest, flags)
                rows += uvloop.run(rounds(targets, scenarios, flags.rounds, "model"))
                one = [scenario for scenario in scenarios if scenario.connections == 1]
                rows += uvloop.run(rounds(single, one, flags.rounds, "model")) if single else []
        if "synthetic" in flags.upstreams:
            with Programs(folder) as programs:
                contest = Contest(programs, folder, flags.llama_bin_dir)
                targets = synthetic(contest, flags)
                rows += uvloop.run(rounds(targets, scenarios, flags.rounds, "synthetic"))
        if flags.big:
            with Programs(folder) as programs:
                rows += _big(Contest(programs, folder, flags.llama_bin_dir), flags)
    return rows


def _big(contest: Contest, flags: argparse.Namespace) -> list[Row]:
    """Direct and Corral alone, over a model that keeps both cores busy: the share of its tokens/s."""
    model = Model(flags.big.resolve(), 8, 512, 2)
    targets = [contest.direct(model), contest.corral(None, model, "corral-big")]
    targets = [Target(t.name.split("-")[0], t.url, t.model, t.front, t.headers) for t in targets]
    eight = [Scenario("8 streams", True, 8, 24)]
    return uvloop.run(rounds(targets, eight, max(BIG_ROUNDS, flags.rounds), "150M"))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/corral-tiny.gguf")
    parser.add_argument(
        "--big",
        type=Path,
        help="a GGUF for the share of tokens/s: scripts/random_model.py makes one",
    )
    parser.add_argument("--llama-bin-dir", type=Path, default=ROOT / "build/llama/current/bin")
    parser.add_argument("--litellm", type=Path, help="the `litellm` program of its own environment")
    parser.add_argument("--bindings", type=Path, help="a python that has llama-cpp-python[server]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--upstreams", nargs="+", default=["model", "synthetic"])
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "bench")
    flags = parser.parse_args()
    for name in ("litellm", "bindings"):
        if getattr(flags, name) is None:
            print(f"bench: without --{name} it is left out", file=sys.stderr)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    write(run(flags), flags.out)


if __name__ == "__main__":
    main()
