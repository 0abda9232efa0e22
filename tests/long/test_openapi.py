"""Schemathesis over the whole OpenAPI document of a running `corral serve` with keys: every check.

llama-server is the fake: what it answers is not looked at here, what Corral makes of it is. Workers are
off: a job of made-up files would only fail. Schemathesis has an environment of its own (its pins are
not ours), made the first time. More examples: CORRAL_LONG_EXAMPLES=200.
"""

import os
import subprocess
import venv
from pathlib import Path

import pytest

from tests.fakes.served import serve

ENVIRONMENT = Path(__file__).parents[2] / "build" / "schemathesis"
PACKAGE = "schemathesis==4.32.5"
HOOKS = Path(__file__).with_name("openapi_hooks.py")
# Read as this module is imported: tests/conftest.py empties the environment for each test.
EXAMPLES = os.environ.get("CORRAL_LONG_EXAMPLES", "50")
KEY = "corral-test-key-of-an-administrator"
# Whether a body is good depends there on what no schema can say: the files and models that there are,
# Unicode's printable characters, the JSON schemas that llama-server can follow. A 400 is allowed for
# what the document calls good; all else, and every other check, is as strict as everywhere.
STATE_DECIDES = (
    "POST /v1/fine_tuning/jobs", "POST /corral/v1/jobs", "POST /corral/v1/keys", "POST /v1/uploads",
    "POST /v1/uploads/{upload_id}/complete", "POST /v1/chat/completions", "POST /v1/completions",
    "POST /v1/responses", "POST /v1/messages", "POST /v1/messages/count_tokens",
    "POST /v1/embeddings", "POST /apply-template", "POST /infill",
)  # fmt: skip
CONFIGURATION = """
[[operations]]
include-name = {}
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429"]
"""


@pytest.fixture(scope="session")
def schemathesis() -> Path:
    """The program."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "complete").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
        (ENVIRONMENT / "complete").touch()
    return ENVIRONMENT / "bin" / "schemathesis"


def test_every_route_is_as_its_document_says(schemathesis: Path, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION.format(list(STATE_DECIDES)))
    with serve(tmp_path, CORRAL_API_KEYS=KEY, CORRAL_WORKER_COUNT="0") as served:
        done = subprocess.run(
            [
                schemathesis, "run", f"{served.url}/openapi.json",
                "--header", f"Authorization: Bearer {KEY}",
                "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
                "--max-examples", EXAMPLES, "--seed", "1", "--suppress-health-check", "all",
                "--request-timeout", "20", "--output-truncate", "true", "--no-color",
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}, cwd=tmp_path,
            capture_output=True, text=True,
        )  # fmt: skip
        print(done.stdout[-20000:], done.stderr[-5000:])
        assert done.returncode == 0
        assert served.process.poll() is None
