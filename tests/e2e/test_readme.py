"""README's example does what README says: run as it stands, with only the port changed."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.corral_process import CorralProcess, child_environment

README = Path(__file__).resolve().parents[2] / "README.md"
SERVED_AT = "http://127.0.0.1:8000"


def block(info: str) -> str:
    """The only fenced block of README.md that opens with this info string."""
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{info}\n(.*?)^```$", text, re.M | re.S)
    return str(found)


def test_the_example_prints_the_record_that_the_readme_shows(corral: CorralProcess) -> None:
    example = block("python example")
    assert example.count(SERVED_AT) == 1
    done = subprocess.run(
        [sys.executable, "-c", example.replace(SERVED_AT, corral.root)],
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=120,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads(block("json output"))
