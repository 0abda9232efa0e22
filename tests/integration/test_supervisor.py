"""The supervisor in this process, over the fake: it outlives its own mishaps."""

import asyncio
import os
from pathlib import Path

import pytest

from corral.errors import NotReady
from corral.registry.scan import scan
from corral.runtime.process import free_port
from corral.runtime.upstream import Runtime
from corral.settings import Settings
from tests.fakes.gguf_file import write_model
from tests.fakes.served import fake_llama, is_alive


def runtime(tmp_path: Path, *flags: str) -> Runtime:
    write_model(tmp_path / "models/tiny.gguf")
    given = {
        "data_dir": tmp_path,
        "bundled_models_dir": tmp_path / "none",
        "llama_bin_dir": fake_llama(tmp_path / "bin", *flags),
        "preload": ["tiny"],
    }
    settings = Settings.model_validate(given)
    return Runtime(settings, scan(settings))


async def test_an_unforeseen_failure_is_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("out of ports")]

    def fails_once() -> int:
        if failures:
            raise failures.pop()
        return free_port()

    monkeypatch.setattr("corral.runtime.supervisor.free_port", fails_once)
    async with runtime(tmp_path).running() as running:
        await running.supervisor.ensure_ready(20)
        assert running.supervisor.status.restarts == 1
    assert "out of ports" in caplog.text


async def test_an_interruption_is_a_restart(tmp_path: Path) -> None:
    async with runtime(tmp_path).running() as running:
        await running.supervisor.ensure_ready(20)
        (task,) = [t for t in asyncio.all_tasks() if t.get_name() == "llama-server supervisor"]
        first = running.supervisor.pid
        assert first is not None
        task.cancel()
        while running.supervisor.status.restarts == 0:
            await asyncio.sleep(0.01)
        await running.supervisor.ensure_ready(20)
        assert running.supervisor.pid != first
        assert not is_alive(first)


async def test_after_a_stop_nothing_is_left(tmp_path: Path) -> None:
    async with runtime(tmp_path).running() as running:
        await running.supervisor.ensure_ready(20)
        pid = running.supervisor.pid
    assert pid is not None
    assert not is_alive(pid)
    assert running.supervisor.status.phase == "stopped"
    assert not list((tmp_path / "run").glob("*.ini"))


async def test_waiting_for_a_start_that_does_not_come_says_why(tmp_path: Path) -> None:
    async with runtime(tmp_path, "--exit-at-start", "4").running() as running:
        while running.supervisor.status.restarts < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(
            NotReady, match=r"restarting: it ended with status 4.*llama-server\.log"
        ):
            await running.supervisor.ensure_ready(0.01)


async def test_presets_of_killed_corrals_are_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "presets-999999999.ini").touch()
    (run / f"presets-{os.getppid()}.ini").touch()
    async with runtime(tmp_path).running():
        left = {path.name for path in run.glob("*.ini")}
    assert left == {f"presets-{os.getpid()}.ini", f"presets-{os.getppid()}.ini"}
