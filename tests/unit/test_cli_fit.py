"""`corral models fit`: a model here, at an address, on a hub; without llama.cpp's tools by metadata."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corral import cli, machine
from corral.errors import CorralError
from tests.fakes.gguf_file import Value, gguf, write_adapter, write_model
from tests.fakes.hub_repos import HubFile, HubRepo
from tests.fakes.hub_server import HubServer
from tests.fakes.range_server import RangeServer

runner = CliRunner()
SHAPE: dict[str, Value] = {
    "llama.block_count": 2, "llama.embedding_length": 64, "llama.feed_forward_length": 128,
    "llama.attention.head_count": 2, "general.file_type": 1,
}  # fmt: skip
ROW = 2 * (64 + 64) * 2  # layers, keys and values, F16


@pytest.fixture(autouse=True)
def place(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = clean_environment / "models"
    write_model(folder / "tiny.gguf", SHAPE)
    write_model(folder / "shapeless.gguf")
    write_adapter(folder / "tuned.gguf", "tiny")
    monkeypatch.setenv("CORRAL_BUNDLED_MODELS_DIR", str(clean_environment / "none"))
    monkeypatch.setenv("CORRAL_LLAMA_BIN_DIR", str(clean_environment / "none"))
    return folder


def fit(*words: str) -> dict[str, Any]:
    done = runner.invoke(cli.app, ["models", "fit", *words, "--json"], catch_exceptions=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def refused(*words: str) -> str:
    with pytest.raises(CorralError) as caught:
        runner.invoke(cli.app, ["models", "fit", *words], catch_exceptions=False)
    return caught.value.message


def test_a_model_here(place: Path) -> None:
    report = fit("tiny", "--ctx", "1024", "--slots", "2", "--gpu", "4090", "--gpu", "1GB")
    assert report["need"]["kv_cache"] == 2 * 1024 * ROW
    assert report["need"]["total"] == sum(v for k, v in report["need"].items() if k != "total")
    assert [one["name"] for one in report["memory"]][-2:] == ["RTX 4090", "GPU of 1GB"]
    assert [one["fits"] for one in report["memory"]][-2:] == [True, False]
    assert [one["type"] for one in report["types"]] == ["F16"]
    assert [one["method"] for one in report["training"]] == ["full", "lora", "qlora"]


def test_without_the_tools_the_note_says_so(place: Path) -> None:
    report = fit("tiny")
    assert report["method"] == "metadata"
    assert report["notes"][0].startswith("estimated from the metadata alone: ")
    assert report["notes"][0].endswith("; `make build` builds it")


def test_the_context_is_what_the_model_was_trained_for_unless_told(place: Path) -> None:
    assert fit("tiny")["context"] == 4096
    told = fit("tiny", "--ctx", "8000")
    assert told["context"] == 8000
    assert "8000 tokens are more than the 4096 it was trained for" in told["notes"]


def test_of_an_adapter_it_is_the_base(place: Path) -> None:
    report = fit("tuned")
    assert report["name"] == "tiny"
    assert "`tuned` is an adapter of " in " ".join(report["notes"])


def test_the_table_for_people(place: Path) -> None:
    out = runner.invoke(cli.app, ["models", "fit", "tiny", "--gpu", "24GB"]).stdout
    for word in ("tiny: llama, 8 parameters", "MEMORY", "TAKE", "GPU of 24GB", "qlora", "note: "):
        assert word in out


def test_a_file_at_an_address_is_not_fetched(place: Path) -> None:
    with RangeServer(gguf(SHAPE, elements=2_000_000)) as server:
        report = fit(server.url, "--ctx", "256", "--slots", "1")
        assert report["parameters"] == 2_000_000
        assert report["need"]["kv_cache"] == 256 * ROW
        assert server.sent < 300_000


def hub_repo() -> HubRepo:
    files = {"a-Q4_K_M.gguf": (15, 100_000), "a-Q8_0.gguf": (7, 200_000), "README.md": (0, 0)}
    return HubRepo(
        "owner/a",
        {
            name: HubFile(name, gguf({**SHAPE, "general.file_type": kind}, elements) if elements else b"#")
            for name, (kind, elements) in files.items()
        },
    )  # fmt: skip


def test_a_repository_is_judged_by_its_own_files(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer(hub_repo()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        report = fit("owner/a", "--ctx", "512", "--slots", "1", "--gpu", "24GB")
        assert [(one["type"], one["file"]) for one in report["types"]] == [
            ("Q8_0", "a-Q8_0.gguf"),
            ("Q4_K_M", "a-Q4_K_M.gguf"),
        ]
        assert report["memory"][-1]["take"] == "Q8_0"
        assert report["type"] == "Q4_K_M"
        assert [one["type"] for one in fit("owner/a:q8_0")["types"]] == ["Q8_0"]


def test_what_cannot_be_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("none").startswith(
        "the model `none` does not exist here; there are: `shapeless`"
    )
    path = place / "shapeless.gguf"
    assert refused("shapeless") == (
        f"{path} has no weights or says nothing of its shape (`llama.block_count`, "
        "`.embedding_length`); fetch or convert it again"
    )
    assert refused(str(place / "tuned.gguf")) == (
        f"{place / 'tuned.gguf'} is an adapter: ask about its base model"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused("owner/a") == "`owner/a` is not here, and HF_HUB_OFFLINE is set"
    with HubServer(hub_repo()) as hub:
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert refused("owner/a:Q2_K").startswith(
            "`owner/a` has no Q2_K; there are: `a-Q4_K_M.gguf`"
        )


# ---- this machine ------------------------------------------------------------------------------


def program(path: Path, output: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    path.chmod(0o755)


def test_llama_servers_devices_are_read(tmp_path: Path) -> None:
    listing = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 4090 (24077 MiB, 23000 MiB free)"
    program(tmp_path / "llama-server", listing)
    (gpu,) = machine.gpus(tmp_path)
    assert gpu.name == "NVIDIA GeForce RTX 4090 (CUDA0)"
    assert (gpu.total, gpu.free, gpu.usable) == (24077 * 1024**2, 23000 * 1024**2, True)


def test_a_gpu_that_the_build_cannot_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "llama-server", "Available devices:\n  (none)")
    program(tmp_path / "bin" / "nvidia-smi", "Tesla T4, 15360, 15000\nbroken, [N/A], x")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (gpu,) = machine.gpus(tmp_path)
    assert (gpu.name, gpu.total, gpu.usable) == ("Tesla T4", 15360 * 1024**2, False)


def test_ram_is_what_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.memory()
    assert 0 < whole.free <= whole.total
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.memory() == machine.Memory("RAM", 1_000_000, 600_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory().total == whole.total
