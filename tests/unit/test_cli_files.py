"""`corral files …` on the local data directory, and over HTTP against the real routes."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from corral import cli
from corral.app import create_app
from corral.cli.files import AnyPurposeName, PurposeName
from corral.errors import BadRequest, NotFound, UpstreamError
from corral.files.schemas import PURPOSES, Purpose
from corral.registry.catalog import Collector
from corral.settings import Settings
from tests.fakes.served import wait_for

runner = CliRunner()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An application of its own, without llama-server, on a free port."""
    settings = Settings(data_dir=tmp_path / "there", bundled_models_dir=tmp_path / "none")
    app = create_app(settings, Collector().catalog({}))
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive(), "the application listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join()


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, ["files", *arguments], env={"COLUMNS": "200"})


def test_the_purposes_are_those_of_the_api() -> None:
    assert {name.value for name in PurposeName} == set(Purpose.__args__)  # type: ignore[attr-defined]
    assert {name.value for name in AnyPurposeName} == set(PURPOSES)


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_is_added_listed_read_and_removed(tmp_path: Path, url: str, remote: bool) -> None:
    where = ("--url", url) if remote else ()
    path = tmp_path / 'rows "ü" [bold].jsonl'
    path.write_bytes(b"\x00\xff" * 1_000_000)
    done = invoke("add", str(path), *where)
    file_id = done.stdout.strip()
    assert file_id.startswith("file-"), done.output
    (found,) = json.loads(invoke("ls", "--json", *where).stdout)
    assert (found["id"], found["bytes"], found["purpose"]) == (file_id, 2_000_000, "fine-tune")
    name = found["filename"]
    assert name == (path.name.replace('"', "%22") if remote else path.name)
    table = invoke("ls", *where).stdout
    assert file_id in table
    assert "[bold]" in table
    assert invoke("content", file_id, *where).stdout_bytes == path.read_bytes()
    assert json.loads(invoke("ls", "--json", "--purpose", "evals", *where).stdout) == []
    gone = invoke("rm", file_id, *where)
    assert (gone.stdout, gone.stderr) == ("", f"{file_id}: deleted\n")
    told = invoke("rm", file_id, *where)
    assert isinstance(told.exception, NotFound)
    assert f"no file `{file_id}`" in told.exception.message


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, said in (("none", "is no file"), ("empty", "is empty")):
        done = invoke("add", str(tmp_path / name))
        assert isinstance(done.exception, BadRequest)
        assert said in done.exception.message


def test_a_corral_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    for verb in (("ls",), ("add", str(path)), ("rm", "file-x"), ("content", "file-x")):
        done = invoke(*verb, "--url", "http://127.0.0.1:9")
        assert isinstance(done.exception, UpstreamError), verb


def test_models_gc_removes_what_killed_uploads_have_left(
    clean_environment: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    file_id = invoke("add", str(path)).stdout.strip()
    left = clean_environment / "files" / "tmp" / "left"
    left.write_text("half")
    assert runner.invoke(cli.app, ["models", "gc", "--dry-run"]).exit_code == 0
    assert left.exists()
    done = json.loads(runner.invoke(cli.app, ["models", "gc", "--json"]).stdout)
    assert done["removed"] == [{"path": str(left), "bytes": 4}]
    assert not left.exists()
    assert (clean_environment / "files" / file_id).exists()
