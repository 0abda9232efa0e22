"""What the bundled model is for: a sentence about a publication becomes its FOLIO record.

The bar for all 300 held-out rows, and the figures of the quantised model, are in tests/long.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.e2e.corral_process import CorralProcess, child_environment

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "data" / "folio_heldout.jsonl"
ROWS = 60
# Of 60 rows one more or less wrong is 0.017: room for chance below the 0.90 of the whole file.
LEAST_EXACT = 0.85
LEAST_VALID = 0.99


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


def test_the_adapter_and_its_base_answer_side_by_side(client: OpenAI) -> None:
    """The adapter's scale goes with each request: the base must not have learned cataloguing."""
    row = json.loads(HELD_OUT.read_text(encoding="utf-8").splitlines()[0])
    answers = {
        name: client.chat.completions.create(
            model=name, messages=row["messages"][:-1], temperature=0, max_tokens=400
        )
        for name in ("corral-tiny-folio", "corral-tiny", "corral-tiny-folio")
    }
    texts = {name: answer.choices[0].message.content or "" for name, answer in answers.items()}
    expected = json.loads(row["messages"][-1]["content"])
    assert json.loads(texts["corral-tiny-folio"]) == expected
    assert texts["corral-tiny"] != texts["corral-tiny-folio"]
