"""`corral models pull` and `corral models search`, from the hub to the registry."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from corral import settings as settings_module
from corral.cli import main
from corral.registry.store import Registry
from tests.fakes.hub_fetch import fetcher
from tests.fakes.hub_repos import repo
from tests.fakes.hub_server import HubServer

BUNDLED = Path(__file__).parents[2] / "models" / "corral-tiny.gguf"
REPO, FILE = "org/corral-GGUF", "corral-copy-F16.gguf"


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def corral(*arguments: str | Path) -> Done:
    """Run `corral models …` as the console script does, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["corral", "models", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def model() -> bytes:
    return BUNDLED.read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes) -> Iterator[HubServer]:
    """A hub with the bundled model; the environment leads there."""
    quants = {"g-Q4_K_M.gguf": model[:3_000], "g-Q8_0.gguf": model[:5_000_000], "README.md": b"g"}
    gated = repo("org/gated-GGUF", quants, gated="manual", licence="llama3", downloads=7)
    with HubServer(repo(REPO, {FILE: model}, downloads=1234), gated) as server:
        fetcher(tmp_path, server, monkeypatch)
        yield server


def test_a_model_comes_from_the_hub_into_the_registry_once(hub: HubServer, model: bytes) -> None:
    first = corral("pull", "--hf-repo", REPO)
    size = f"{len(model) / 1e6:,.1f} MB"
    assert (first.returncode, first.stdout) == (
        0,
        f"corral-copy-F16: {size} ({size} fetched), apache-2.0\n",
    ), first.stderr
    assert first.stderr == f"{REPO}: {FILE}\n"
    second = corral("pull", "--hf-repo", REPO, "--json")
    result = json.loads(second.stdout)
    assert (result["registered"], result["fetched_bytes"]) == (["corral-copy-F16"], 0)
    assert hub.requests["blob"] == 1
    (artifact,) = Registry(settings_module.load()).everything()
    assert artifact.weights.read_bytes() == model
    assert artifact.manifest.revision == 1
    assert artifact.manifest.source["repo"] == REPO
    listed = json.loads(corral("ls", "--json").stdout)["models"]
    assert "corral-copy-F16" in [entry["name"] for entry in listed]


def test_a_model_comes_from_an_address(hub: HubServer, model: bytes) -> None:
    sha256 = hub.repos[REPO].files[FILE].sha256
    url = f"{hub.url}/{REPO}/resolve/main/{FILE}"
    done = corral("pull", "--url", url, "--sha256", sha256, "--name", "by-address")
    assert done.stdout.startswith("by-address: "), done.stderr
    assert Registry(settings_module.load()).get("by-address").weights.read_bytes() == model


def test_a_failure_is_one_message_and_registers_nothing(hub: HubServer) -> None:
    done = corral("pull", "--hf-repo", "org/gated-GGUF")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"corral: `org/gated-GGUF` is gated: ask for access at {hub.url}/org/gated-GGUF, "
        "then set HF_TOKEN to a token of that account"
    )
    assert Registry(settings_module.load()).everything() == []


def test_bad_input_has_exit_status_2(hub: HubServer) -> None:
    assert corral("pull") == (
        2, "", "corral: `spec`: name one thing to fetch: hf_repo (OWNER/NAME), url, or file\n",
    )  # fmt: skip
    assert corral("pull", "--hf-repo", "../x").returncode == 2
    assert not hub.requests


def test_search_lists_what_one_chooses_by(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    size = f"{len(hub.repos[REPO].files[FILE].content) / 1e6:,.1f} MB"
    rows = [line.split() for line in corral("search", "org").stdout.splitlines()]
    assert rows == [
        ["REPOSITORY", "DOWNLOADS", "LICENCE", "GATED", "QUANTISATIONS"],
        [REPO, "1,234", "apache-2.0", "no", "F16", *size.split()],
        ["org/gated-GGUF", "7", "llama3", "yes", *"Q4_K_M 0.0 MB, Q8_0 5.0 MB".split()],
    ]


def test_search_as_json(hub: HubServer) -> None:
    done = corral("search", "gated", "--json")
    assert json.loads(done.stdout) == [
        {
            "repo": "org/gated-GGUF",
            "commit": hub.repos["org/gated-GGUF"].commit,
            "downloads": 7,
            "licence": "llama3",
            "gated": True,
            "quants": [{"quant": "Q4_K_M", "bytes": 3_000}, {"quant": "Q8_0", "bytes": 5_000_000}],
        }
    ]


def test_search_that_finds_nothing(hub: HubServer) -> None:
    done = corral("search", "nothing-like-it")
    assert (done.returncode, done.stderr) == (0, "nothing found; try fewer words\n")


def test_search_of_a_hub_in_trouble(hub: HubServer) -> None:
    hub.order("search", 1, status=429, headers={"Retry-After": "1"})
    assert REPO in corral("search", "corral").stdout
    hub.order("search", status=404)
    done = corral("search", "corral")
    assert (done.returncode, done.stderr) == (
        1,
        f"corral: {hub.url} answered 404 about the search for `corral`; check HF_ENDPOINT and the name\n",
    )
