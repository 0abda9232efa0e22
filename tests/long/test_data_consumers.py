"""What `corral data convert` writes, read and trained on by mlx-lm's and TRL's own code."""

import json
import subprocess
from pathlib import Path

import pytest

from corral.datasets import convert
from corral.datasets.findings import Findings

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "data" / "datasets"

pytestmark = pytest.mark.long


def rows_of(kind: str, count: int) -> list[dict[str, object]]:
    """Rows of one kind, in Corral's own formats."""
    rows: list[dict[str, object]] = []
    for n in range(count):
        ask = {"role": "user", "content": f"question {n} “é”"}
        call = {
            "id": f"c{n}",
            "type": "function",
            "function": {"name": "f", "arguments": f'{{"k{n % 3}" : {n}}}'},
        }
        chat = [
            {"role": "system", "content": "s"},
            ask,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{n}", "content": "r"},
            {"role": "assistant", "content": f"answer {n}"},
        ]
        tools = [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ]
        if kind == "chat":
            rows.append(
                {"messages": chat, "tools": tools}
                if n % 2
                else {"messages": [ask, chat[-1]], "tools": tools}
            )
        elif kind == "completion":
            earlier = {"role": "assistant", "content": "not learned", "weight": 0}
            rows.append({"messages": [ask, earlier, ask, chat[-1]]})
        elif kind == "preference":
            rows.append(
                {
                    "input": {"messages": [ask]},
                    "preferred_output": [{"role": "assistant", "content": f"good {n}"}],
                    "non_preferred_output": [{"role": "assistant", "content": "bad"}],
                }
            )
        else:
            rows.append({"text": f"Some text, number {n}."})
    return rows


def converted(tmp_path: Path, kind: str, to: str, out: Path) -> None:
    """Write rows of a kind and convert them."""
    source = tmp_path / f"{kind}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows_of(kind, 24)))
    findings = Findings(strict=True)
    convert.convert(source, out, convert.Options(to=to, strict=True, valid=0.3), findings)
    assert not findings.failed, findings.kept


def test_mlx_lm_and_trl_take_the_files(consumers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    converted(tmp_path, "chat", "mlx", folder / "mlx")
    converted(tmp_path, "text", "mlx-text", folder / "mlx-text")
    for kind in ("chat", "completion", "preference", "text"):
        for suffix in (".jsonl", ".parquet"):
            converted(tmp_path, kind, "trl", folder / f"trl-{kind}{suffix}")
    template = ROOT / "models" / "chat_template.jinja"
    program = Path(__file__).with_name("consume_datasets.py")
    done = subprocess.run(
        [consumers, program, folder, template], stdout=subprocess.PIPE, check=True, text=True
    )
    taken = json.loads(done.stdout.strip().splitlines()[-1])
    assert taken["mlx"] == {"mlx": 24, "mlx-text": 24}
    # Arguments arrive as written: no nulls from other rows' keys, and in Parquet their exact text.
    assert taken["trl"].pop("trl-chat.jsonl arguments") == {"k1": 1}
    assert taken["trl"].pop("trl-chat.parquet arguments") == '{"k1" : 1}'
    assert taken["trl"] == {
        f"trl-{kind}{suffix}": 24
        for kind in ("chat", "completion", "preference", "text")
        for suffix in (".jsonl", ".parquet")
    }
