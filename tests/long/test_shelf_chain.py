"""The shelf from end to end on the bundled model: fetched from a hub, quantised into five types with
table and page, served by a Corral that was running all the while, exported, loaded where it went."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import merge_check
from corral.registry.gguf_header import read_header
from corral.settings import load
from llama_tools import LlamaTools
from tests.e2e.corral_process import CorralProcess, child_environment, wait_for
from tests.fakes.hub_repos import repo
from tests.fakes.hub_server import HubServer

MODEL = Path(__file__).resolve().parents[2] / "models" / "corral-tiny.gguf"
REPO, NAME = "org/chain-GGUF", "chain"
TYPES = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "IQ4_XS")
EXPORTS = {
    "gpt4all": ("Q4_K_M", "chain-Q4_K_M.gguf"),
    "lmstudio": ("Q5_K_M", "corral/chain-Q5_K_M/chain-Q5_K_M.gguf"),
    "ollama": ("Q8_0", "chain-Q8_0/chain-Q8_0.gguf"),
}
PROMPT = [
    {
        "role": "user",
        "content": "For Vacancies in certain judgeships. Published in 1935 by Springer, Washington.",
    }
]
TOKENS = 32
SERVED_WITHIN = 60


@dataclass(frozen=True)
class Shelf:
    """A running Corral, and the verbs on its data directory."""

    corral: CorralProcess
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        """What `corral models …` prints; how long it took goes to the test's output."""
        argv = [sys.executable, "-m", "corral", "models", *words]
        argv += ["--data-dir", str(self.corral.data_dir)]
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, done.stderr
        print(f"models {' '.join(words[:3])} …: {time.monotonic() - began:.1f} s")
        return done.stdout

    def names(self) -> set[str]:
        """What is served."""
        return {entry["id"] for entry in self.corral.get("/v1/models")[1]["data"]}

    def answer(self, model: str) -> str:
        """What a served model says to PROMPT, greedily."""
        asked = {"model": model, "messages": PROMPT, "temperature": 0, "max_tokens": TOKENS}
        request = urllib.request.Request(
            f"{self.corral.url}/chat/completions",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            text: str = json.load(reply)["choices"][0]["message"]["content"]
        return text


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer(repo(REPO, {"chain-F32.gguf": MODEL.read_bytes()})) as server:
        yield server


@pytest.fixture(scope="module")
def shelf(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("chain")
    place = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(folder / "hub"), "HF_HOME": "/nowhere"}
    with CorralProcess(folder, environment={"CORRAL_THREADS": "1"}) as corral:
        yield Shelf(corral, child_environment(**place))


@pytest.fixture(scope="module")
def fetched(shelf: Shelf) -> dict[str, Any]:
    said = shelf.run("pull", "--hf-repo", REPO, "--name", NAME, "--json")
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.fixture(scope="module")
def quantised(
    shelf: Shelf, fetched: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The printed table, and the page."""
    page = tmp_path_factory.mktemp("page") / "page.html"
    return shelf.run("quantize", NAME, *TYPES, "--html", str(page), "--chunks", "16"), page


def recorded(shelf: Shelf, kind: str) -> dict[str, Any]:
    """The manifest of one type."""
    manifest: dict[str, Any] = json.loads(shelf.run("show", f"{NAME}-{kind}", "--json"))["manifest"]
    return manifest


def test_it_comes_from_the_hub_byte_for_byte(
    shelf: Shelf, fetched: dict[str, Any], hub: HubServer
) -> None:
    file = hub.repos[REPO].files["chain-F32.gguf"]
    assert fetched["fetched_bytes"] == file.size
    assert [kept["sha256"] for kept in fetched["files"]] == [file.sha256]
    path = Path(json.loads(shelf.run("show", NAME, "--json"))["path"])
    assert path.read_bytes() == MODEL.read_bytes()


def test_the_table_has_every_type_and_the_page_a_point_for_each(
    shelf: Shelf, quantised: tuple[str, Path]
) -> None:
    table, page = quantised
    print(table)
    rows = {line.split()[0]: line.split() for line in table.splitlines()[1:] if line.strip()}
    assert table.split()[0] == "TYPE"
    assert all(rows[kind][-1] == "passed" for kind in TYPES)
    assert page.read_text().count("<circle") == len(TYPES)
    made = {kind: recorded(shelf, kind) for kind in TYPES}
    sizes = [made[kind]["files"][0]["bytes"] for kind in TYPES]
    assert sizes == sorted(sizes, reverse=True)
    lost = {kind: made[kind]["metrics"]["measure"]["kld_mean"] for kind in TYPES}
    assert lost["F16"] < lost["Q8_0"] < lost["Q5_K_M"] < lost["Q4_K_M"] < 0.05
    assert {made[kind]["base"]["name"] for kind in TYPES} == {NAME}


def test_every_type_is_served_without_a_restart(shelf: Shelf, quantised: tuple[str, Path]) -> None:
    wanted = {NAME, *(f"{NAME}-{kind}" for kind in TYPES)}
    wait_for("all are served", SERVED_WITHIN, lambda: wanted <= shelf.names())
    answers = {name: shelf.answer(name) for name in sorted(wanted)}
    # F16 has the very weights, the others nearly.
    assert answers[f"{NAME}-F16"] == answers[NAME]
    assert all(len(text) > 20 for text in answers.values())


@pytest.mark.parametrize("to", EXPORTS)
def test_what_was_exported_loads_and_answers_as_it_was_served(
    to: str, shelf: Shelf, quantised: tuple[str, Path], tmp_path: Path
) -> None:
    kind, place = EXPORTS[to]
    name = f"{NAME}-{kind}"
    wait_for("it is served", SERVED_WITHIN, lambda: name in shelf.names())
    said = json.loads(shelf.run("export", name, "--to", to, "--dest", str(tmp_path), "--json"))
    file = tmp_path / place
    assert said["path"] == str(file)
    assert said["sha256"] == recorded(shelf, kind)["files"][0]["sha256"]
    assert read_header(file).architecture == "llama"
    tools = LlamaTools(load().llama_bin_dir)
    (loaded,) = merge_check.answers(tools, file, None, [PROMPT], 1)
    text = "".join(token.text for token in loaded)
    assert text.startswith(shelf.answer(name)[:20])
    assert (tmp_path / place).with_name("Modelfile").exists() == (to == "ollama")
