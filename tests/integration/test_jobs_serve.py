"""Jobs of a running `corral serve`: its worker comes, works and goes with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.cli.follow import follow
from corral.cli.jobs_api import RemoteJobs
from corral.errors import BadRequest, CorralError, NotFound
from corral.settings import Settings
from tests.fakes.gguf_file import write_model
from tests.fakes.served import Served, children, family, is_alive, serve, wait_for


def command(pid: int) -> str:
    listed = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
    )
    return listed.stdout


def worker(served: Served) -> int:
    """The process id of the worker that serve has started."""

    def look() -> list[int]:
        return [pid for pid in family(served.process.pid) if "-m corral worker" in command(pid)]

    def ready() -> Any:
        # The keeper's command line has the worker's in it: the worker is the last of the two.
        found = look()
        return found[-1] if len(found) == 2 else None

    pid: int = wait_for(ready, "the worker runs")
    return pid


def test_a_job_is_submitted_followed_and_its_model_there(tmp_path: Path) -> None:
    write_model(tmp_path / "new.gguf")
    with serve(tmp_path) as served:
        url = served.url
        spec = {"file": str(tmp_path / "new.gguf"), "name": "fresh"}
        assert follow(url, "pull", spec, bar=False)["registered"] == ["fresh"]
        corral = RemoteJobs(url + "/v1/", Settings())
        (job,) = corral.list(5, None)
        assert (job["status"], job["kind"]) == ("succeeded", "pull")
        items = list(corral.follow(job["id"], wait=False))
        assert items[-1]["status"] == "succeeded"
        assert [item["message"] for item in items[:2]] == ["queued", "running"]
        with pytest.raises(CorralError) as told:
            follow(url, "pull", {"file": str(tmp_path / "missing.gguf")}, bar=False)
        assert "missing.gguf" in told.value.message
        with pytest.raises(BadRequest) as told:
            follow(url, "pull", {"fiel": "x"}, bar=False)
        assert told.value.param == "spec.fiel"
        with pytest.raises(NotFound):
            corral.cancel("job_x")


def test_the_command_line_asks_a_running_corral_with_its_key(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_API_KEYS="k") as served:
        run = [sys.executable, "-m", "corral", "jobs", "ls", "--json", "--url", served.url]
        good = subprocess.run(
            run, env={**os.environ, "CORRAL_API_KEYS": "k"}, capture_output=True, text=True
        )
        assert (json.loads(good.stdout), good.stderr) == ([], "")
        bad = subprocess.run(run, capture_output=True, text=True)
        assert (bad.returncode, bad.stdout) == (1, "")
        assert "no API key; send `Authorization: Bearer KEY`" in bad.stderr


def test_the_worker_ends_with_serve(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        assert served.url
        everything = [worker(served), *family(served.process.pid)]
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert not any(map(is_alive, everything))


def test_the_worker_ends_with_a_serve_that_is_killed(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        assert served.url
        everything = [worker(served), *family(served.process.pid)]
        served.signal(signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, everything)), "nothing is left running")


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        assert served.url
        first = worker(served)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not is_alive(first), "it is gone")
        assert worker(served) != first


@pytest.mark.parametrize("variables", [{"CORRAL_ROLE": "gateway"}, {"CORRAL_WORKER_COUNT": "0"}])
def test_a_gateway_has_no_worker_but_takes_jobs(tmp_path: Path, variables: dict[str, str]) -> None:
    write_model(tmp_path / "new.gguf")
    with serve(tmp_path, **variables) as served:
        corral = RemoteJobs(served.url, Settings())
        job = corral.submit("pull", {"file": str(tmp_path / "new.gguf")})
        assert corral.show(job["id"])["status"] == "queued"
        assert not [
            pid for pid in children(served.process.pid) if "-m corral worker" in command(pid)
        ]


def test_a_machine_for_jobs_only_does_not_serve(tmp_path: Path) -> None:
    with serve(tmp_path, CORRAL_ROLE="worker") as served:
        assert served.ended() == 2
        wait_for(lambda: "Start `corral worker`" in served.stderr, "the reason is told")
