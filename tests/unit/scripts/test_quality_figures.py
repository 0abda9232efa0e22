"""What llama-perplexity and llama-bench print, read into figures; the gate."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import task_score
from corral.errors import BadRequest, ToolError
from llama_tools import LlamaTools
from quality_figures import ATTEMPTS, divergence, parse_bench, parse_divergence, saved_bytes
from quality_gate import Gate
from quality_page import page

TABLE = """
chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS            Same top p
   1     124.5764 ±   36.3082       0.15408 ±    0.07637       0.16603 ±    0.02926    15.178 ±  2.174 %    82.745 ±  2.371 %
   2     130.6472 ±    6.8226      -0.13909 ±    0.01237       0.12711 ±    0.00474     8.928 ±  0.353 %    83.408 ±  0.433 %
"""
STATISTICS = """
====== Perplexity statistics ======
Mean PPL(Q)                   : 130.647164 ±   6.822564
====== KL divergence statistics ======
Mean    KLD:   0.127106 ±   0.004743
Maximum KLD:   8.599565
99.9%   KLD:   5.175524
99.0%   KLD:   2.008906
"""
ROW = {"name": "m-Q8_0", "type": "Q8_0", "bytes": 1000, "kld_mean": 0.01, "ppl": 2.0}


def test_every_figure_of_a_whole_output() -> None:
    assert parse_divergence(TABLE + STATISTICS) == {
        "ppl": 130.647164, "kld_mean": 0.127106, "same_top": 0.83408,
        "kld_99": 2.008906, "kld_max": 8.599565,
    }  # fmt: skip


def test_an_output_without_its_end_still_has_what_decides() -> None:
    found = parse_divergence(TABLE + STATISTICS[:120])
    assert found["kld_mean"] == 0.12711
    assert found["same_top"] == 0.83408


def test_an_output_without_figures_is_an_error_with_its_last_lines() -> None:
    with pytest.raises(ToolError, match=r"printed no figures.*inconsistent vocabulary"):
        parse_divergence("loading\nkl_divergence: inconsistent vocabulary (2048 vs 3)\n")


def test_speeds_of_llama_bench() -> None:
    runs = '[{"n_prompt": 128, "n_gen": 0, "avg_ts": 1121.11}, {"n_prompt": 0, "n_gen": 64, "avg_ts": 233.6}]'
    assert parse_bench(f"warning: noise\n{runs}\n") == {
        "tokens_per_second": 233.6,
        "prompt_tokens_per_second": 1121.1,
    }


@pytest.mark.parametrize("said", ["", "error: no model", "[]", '[{"n_gen": 1, "avg_ts": 1.0}]'])
def test_a_bench_without_both_speeds_is_an_error(said: str) -> None:
    with pytest.raises(ToolError, match="llama-bench"):
        parse_bench(said)


def test_the_saved_probabilities_are_as_long_as_llama_perplexity_writes_them() -> None:
    # Seen: 29 windows of 512 tokens, 2,048 entries.
    assert saved_bytes(29, 512, 2048) == 30_408_492


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"kld_mean": 0.1}, []),
        ({"kld_mean": 0.1001}, ["KL divergence 0.1001 is over 0.1"]),
        ({"kld_mean": 0.0, "score": 0.79}, ["score 79.0% is under 80.0%"]),
        ({"kld_mean": 0.0, "score": 0.8}, []),
    ],
)
def test_the_gate(figures: dict[str, float], why: list[str]) -> None:
    assert Gate(0.1, 0.8).judge(figures) == {"passed": not why, "why": why}


def test_a_share_right_comes_from_an_evaluation_of_several_models_or_of_one(tmp_path: Path) -> None:
    measured = [{"model": "tuned", "exact": 0.91}, {"model": "tuned Q8_0", "exact": 271 / 300}]
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"models": measured}))
    assert task_score.found(file, "tuned") == 0.91
    assert task_score.found(file, "tuned Q8_0") == 0.9033
    file.write_text(json.dumps(measured[0]))
    assert task_score.found(file, "tuned") == 0.91
    with pytest.raises(BadRequest, match=r"no model `tuned Q8_0`; it has \['tuned'\]"):
        task_score.found(file, "tuned Q8_0")


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    measured = {
        "base": {"name": "<m>", "type": "F32", "bytes": 4000, "ppl": 1.9},
        "types": [{**ROW, "gate": {"passed": True, "why": []}}],
        "text": {"file": "evaluation.jsonl", "ctx": 128},
        "gate": {"max_kld": 0.1, "min_score": None},
        "llama_cpp": "0c1e57098",
    }
    made = page(measured)
    assert "<m>" not in made
    assert made.count("<circle") == 1
    assert "src=" not in made
    assert "http" not in made


class Said(LlamaTools):
    """Programs that print these outputs, one for each run, the last one ever after."""

    def __init__(self, *outputs: str) -> None:
        self.outputs, self.runs = outputs, 0

    def run(self, argv: Sequence[str], on_text: Callable[[str], None] | None = None) -> str:
        self.runs += 1
        return self.outputs[min(self.runs, len(self.outputs)) - 1]


HEAD = "kl_divergence: computing over 2 chunks, n_ctx=128\n"
CUT = HEAD + TABLE[: TABLE.index("\n   2")] + "\n"


def test_a_run_that_lost_its_last_window_is_repeated() -> None:
    tools = Said(CUT, HEAD + TABLE)
    assert divergence(tools, [], lambda _done, _total: None)["kld_mean"] == 0.12711
    assert tools.runs == 2


def test_the_figures_of_a_part_are_never_taken_for_those_of_the_whole() -> None:
    tools = Said(CUT)
    with pytest.raises(ToolError, match="lost the end of its table 4 times"):
        divergence(tools, [], lambda _done, _total: None)
    assert tools.runs == ATTEMPTS
