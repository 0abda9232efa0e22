"""The image `corral` as a user runs it: published on loopback, read-only, without rights."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from docker.client import DockerClient
from openai.types.chat import ChatCompletionMessageParam

from tests.docker.conftest import Build
from tests.docker.container import HEALTHY_SECONDS, Corral, output, wait_for

Start = Callable[..., Corral]
MODEL = "corral-tiny-folio"
SYSTEM = "As an expert cataloger, you will create the FOLIO inventory JSON record."
PROMPT = "For Vacancies in certain judgeships. Published in 1935 by Springer, Washington Subjects are Courts, Judges."
REQUEST: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": PROMPT},
]
STOP_SECONDS = 10


def subjects(corral: Corral, key: str = "any", model: str = MODEL) -> list[object]:
    """What the bundled adapter, or another model, makes of the sentence above."""
    with corral.client(key) as client:
        answer = client.chat.completions.create(model=model, messages=REQUEST, temperature=0)
    record = json.loads(answer.choices[0].message.content or "")
    return list(record["subjects"])


RIGHT = [{"value": "Courts"}, {"value": "Judges"}]


def test_a_catalogue_record_and_a_stream_through_the_published_port(start: Start) -> None:
    corral = start().ready()
    assert subjects(corral) == RIGHT
    with corral.client() as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=REQUEST, temperature=0, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 10
    assert json.loads("".join(pieces))["subjects"] == RIGHT


def test_it_has_no_rights_and_can_write_nothing_but_its_volume(start: Start) -> None:
    corral = start().ready()
    status = corral.run("cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Name"] == "tini"
    assert fields["Uid"].split() == ["10001"] * 4
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    for folder in ("/", "/opt/corral", "/opt/corral/build/llama/current/bin"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            corral.run("touch", f"{folder}/x")
    corral.run("touch", "/data/x", "/tmp/x")


def test_the_engine_sees_its_health(start: Start) -> None:
    corral = start()
    assert corral.health() == "starting"
    wait_for("healthy", 60, lambda: corral.health() == "healthy")


def test_keys_come_from_a_file_and_health_knows_them(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# people\nfirst-key\n")
    keys.chmod(0o644)
    environment = {"CORRAL_API_KEYS_FILE": "/run/secrets/api_keys"}
    mounts = {str(keys): {"bind": "/run/secrets/api_keys", "mode": "ro"}}
    corral = start(environment=environment, volumes=mounts).ready("first-key")
    assert corral.get("/v1/models")[0] == 401
    assert subjects(corral, "first-key") == RIGHT
    wait_for("healthy", HEALTHY_SECONDS, lambda: corral.health() == "healthy")
    shown = json.dumps(corral.container.attrs)
    assert "first-key" not in shown + corral.logs()


def test_without_keys_it_serves_no_other_machine(start: Start) -> None:
    for environment in ({}, {"CORRAL_PUBLISHED": "0.0.0.0:8000"}):
        corral = start(environment=environment)
        assert corral.ended() != 0
        (line,) = corral.logs().splitlines()
        assert line.startswith("corral: host 0.0.0.0")
        assert "no API key is set" in line
        assert "CORRAL_PUBLISHED=127.0.0.1:8000" in line


def test_a_folder_of_another_user_gives_one_clear_message(start: Start, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    owner = tmp_path.stat().st_uid
    corral = start(volumes={str(tmp_path): {"bind": "/data", "mode": "rw"}})
    assert corral.ended() != 0
    (line,) = corral.logs().splitlines()
    assert f"/data is not writable for user 10001; it belongs to user {owner}" in line
    assert "chown -R 10001" in line


def test_any_other_user_will_do(start: Start, tmp_path: Path) -> None:
    """As platforms do that give each project its own user."""
    tmp_path.chmod(0o777)
    mounts = {str(tmp_path): {"bind": "/data", "mode": "rw"}}
    corral = start(user="12345:0", volumes=mounts).ready()
    assert subjects(corral) == RIGHT


def test_it_needs_no_temporary_folder(start: Start) -> None:
    assert subjects(start(tmpfs={}).ready()) == RIGHT


def test_its_state_is_in_the_volume(start: Start, volume: str) -> None:
    mounts = {volume: {"bind": "/data", "mode": "rw"}}
    first = start(volumes=mounts).ready()
    first.run("mkdir", "-p", "/data/models")
    first.run("cp", "/opt/corral/models/corral-tiny.gguf", "/data/models/mine.gguf")
    first.container.stop(timeout=STOP_SECONDS)
    first.container.start()
    assert "mine" in listed(first.ready())
    first.container.stop(timeout=STOP_SECONDS)
    second = start(volumes=mounts).ready()
    assert "mine" in listed(second)
    with second.client() as client:
        answer = client.chat.completions.create(model="mine", messages=REQUEST, max_tokens=8)
    assert answer.choices[0].message.content


def listed(corral: Corral) -> list[str]:
    return [model["id"] for model in corral.get("/v1/models")[1]["data"]]


def test_an_adapter_is_merged_into_its_base_and_served(start: Start) -> None:
    """By llama-export-lora, which upstream leaves out of builds like this one."""
    corral = start().ready()
    corral.run("corral", "models", "export", MODEL, "--to", "gpt4all", "--dest", "/data/models")
    (merged,) = wait_for(
        "the merged model",
        HEALTHY_SECONDS,
        lambda: [name for name in listed(corral) if name.startswith(f"{MODEL}-")],
    )
    assert subjects(corral, model=merged) == RIGHT


def test_a_killed_llama_server_comes_back(start: Start) -> None:
    corral = start().ready()
    assert subjects(corral) == RIGHT
    assert corral.kill_llama_servers() >= 2
    assert subjects(corral) == RIGHT
    (restarts,) = re.findall(
        r"^corral_upstream_restarts_total (\S+)$", corral.get("/metrics")[1], re.M
    )
    assert float(restarts) >= 1
    states = corral.run("sh", "-c", "grep -h ^State: /proc/[0-9]*/status")
    assert "zombie" not in states


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "streaming"])
def test_it_stops_within_ten_seconds(start: Start, busy: bool) -> None:
    corral = start().ready()
    with corral.client() as client:
        if busy:
            stream = client.chat.completions.create(
                model="corral-tiny", messages=REQUEST, max_tokens=4000, stream=True
            )
            next(iter(stream))
        began = time.monotonic()
        corral.container.stop(timeout=STOP_SECONDS + 5)
        took = time.monotonic() - began
    assert took < STOP_SECONDS
    assert corral.ended() == 0


def test_commands_other_than_serve_run_too(engine: DockerClient, build: Build) -> None:
    assert MODEL in output(engine, build.corral, "models", "ls", read_only=True)
