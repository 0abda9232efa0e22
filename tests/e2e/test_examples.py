"""Every example runs as its first lines say, and says what it should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.client_program import ROOT, client_python, run_program
from tests.e2e.corral_process import CorralProcess, child_environment

EXAMPLES = ROOT / "examples"
RECORD: dict[str, Any] = {
    "title": "Harbour lights",
    "contributors": [{"name": "Anna Berg"}],
    "subjects": [{"value": "Lighthouses"}],
    "classifications": [],
    "publication": [
        {
            "publisher": "Knopf",
            "place": "New York",
            "dateOfPublication": "1987",
            "role": "Publication",
        }
    ],
    "instanceTypeText": "text",
    "modeOfIssuanceText": "single unit",
}


def test_no_example_is_untested() -> None:
    """dspy_finetune.py and finetune_sdk.py are tested in test_dspy_finetune.py and test_finetune.py."""
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names == {
        "openai_sdk.py",
        "dspy_program.py",
        "chat.sh",
        "dspy_finetune.py",
        "finetune_sdk.py",
    }


def test_openai_sdk(corral: CorralProcess, tmp_path: Path) -> None:
    said = run_program(sys.executable, EXAMPLES / "openai_sdk.py", corral.url, folder=tmp_path)
    lines = dict(line.split(":", 1) for line in said.splitlines())
    record = json.loads(lines["record"])
    subjects = [{"value": "Lighthouses"}, {"value": "Fiction"}]
    assert record == RECORD | {"title": "Harbour lights: a novel", "subjects": subjects}
    assert lines["stream"].strip().startswith("Hedgerow lanterns  (")
    assert lines["object"].strip() == "sender='Anna Berg' receiver='Paul Meyer'"
    name, arguments = lines["tool call"].strip().split(" ", 1)
    assert name == "save_note"
    assert json.loads(arguments) == {"sender": "Anna Berg", "receiver": "Paul Meyer"}
    assert lines["vectors"].strip() == "2 of 256 numbers"


def test_dspy_program(corral: CorralProcess, tmp_path: Path) -> None:
    python = client_python("dspy")
    said = run_program(python, EXAMPLES / "dspy_program.py", corral.url, folder=tmp_path)
    prediction = [
        "'Onion soup' by 'Paul Meyer', 50 minutes with washing up",
        "ingredients: ['onions', 'butter', 'thyme']",
    ]
    first, pieces, last = said.splitlines()[:2], said.splitlines()[2], said.splitlines()[3:]
    assert first == last == prediction
    assert pieces.replace("|", "").strip() == "Onion soup"


def test_chat_with_curl(corral: CorralProcess) -> None:
    done = subprocess.run(
        [str(EXAMPLES / "chat.sh"), corral.url],
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line]
    assert events.pop() == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert json.loads("".join(delta.get("content") or "" for delta in deltas)) == RECORD
