"""What the bundled model is for: a sentence about a publication becomes its FOLIO record.

The bar for all 300 held-out rows, and the figures of the quantised model, are in tests/long.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.corral_process import CorralProcess, child_environment

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
SYSTEM = "As an expert cataloger, you will create the FOLIO inventory JSON record."
PROMPT = "For Vacancies in certain judgeships. Published in 1935 by Springer, Washington Subjects are Courts, Judges."
REQUEST: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": PROMPT},
]
ROWS = 60
# The bundled adapter writes 0.82 of all 300 rows right and 0.993 as valid JSON (models/README.md). The bar is 0.90 and
# 0.99, which tests/long holds it to; these floors only see that it has not become worse.
LEAST_EXACT = 0.85
LEAST_VALID = 0.98


def evaluate(url: str, *arguments: str) -> dict[str, Any]:
    """The figures that scripts/evaluate.py prints for the held-out rows."""
    program = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), "--url", url]
    options = ["--model", "corral-tiny-folio", "--file", str(HELD_OUT), *arguments]
    done = subprocess.run(
        [*program, *options], capture_output=True, text=True, env=child_environment(), timeout=600
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_held_out_records_are_right(corral: CorralProcess, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    figures = evaluate(corral.url, "--rows", str(ROWS), "--wrong", str(wrong))
    assert figures["rows"] == ROWS
    assert figures["valid_json"] >= LEAST_VALID, wrong.read_text()
    assert figures["exact"] >= LEAST_EXACT, wrong.read_text()


async def test_the_adapter_and_its_base_answer_side_by_side(async_client: AsyncOpenAI) -> None:
    """The adapter's scale goes with each request: at the same time, in the same llama-server."""

    async def ask(model: str) -> str:
        answer = await async_client.chat.completions.create(
            model=model, messages=REQUEST, temperature=0, max_tokens=300
        )
        return answer.choices[0].message.content or ""

    alone = {model: await ask(model) for model in ("corral-tiny-folio", "corral-tiny")}
    subjects = json.loads(alone["corral-tiny-folio"])["subjects"]
    assert subjects == [{"value": "Courts"}, {"value": "Judges"}]
    assert alone["corral-tiny"] != alone["corral-tiny-folio"]
    models = [*alone] * 4
    assert await asyncio.gather(*map(ask, models)) == [alone[model] for model in models]
