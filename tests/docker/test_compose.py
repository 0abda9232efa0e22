"""`make serve` from the images: Compose starts the gateway and a worker over one volume."""

import json
import os
import subprocess
import time

import pytest
from docker.client import DockerClient
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.docker.conftest import Build
from tests.docker.container import wait_for
from tests.docker.served import Served, containers, program

STOP_SECONDS = 10
TUNE_SECONDS = 600
PUBLISHED_SECONDS = 15
ENDED = ("succeeded", "failed", "cancelled")
# Learned by heart in a dozen steps; the bundled base knows catalogue records only.
ANSWER = "In the stacks."
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is book {number}?"},
            {"role": "assistant", "content": ANSWER},
        ]
    }
    for number in range(48)
]


def test_make_serve_starts_both_and_ends_in_order(engine: DockerClient, served: Served) -> None:
    running = containers(engine)
    assert set(running) == {"corral", "trainer"}
    for container in running.values():
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert container.attrs["RestartCount"] == 0, container.logs().decode()
    assert running["trainer"].attrs["NetworkSettings"]["Ports"] in ({}, {"8000/tcp": None})
    took = served.stop()
    assert took < STOP_SECONDS, served.said()
    assert containers(engine) == {}


def test_the_trainer_tunes_what_the_gateway_is_asked_for(served: Served) -> None:
    with served.client() as client:
        job = client.fine_tuning.jobs.create(
            model="corral-tiny",
            training_file=upload(client),
            suffix="stacks",
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}},
            },
        )
        job = wait_for("the job's end", TUNE_SECONDS, lambda: ended(client, job.id))
        assert job.status == "succeeded", (job.error, served.said())
        name = job.fine_tuned_model
        assert name is not None
        wait_for("the new model", PUBLISHED_SECONDS, lambda: name in served_names(client))
        answer = client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "Where is book 99?"}],
            temperature=0,
        )
    assert answer.choices[0].message.content == ANSWER


def upload(client: OpenAI) -> str:
    body = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    return client.files.create(file=("rows.jsonl", body), purpose="fine-tune").id


def served_names(client: OpenAI) -> set[str]:
    """Names as jobs tell them."""
    return {f"openai/{model.id}" for model in client.models.list()}


def ended(client: OpenAI, id: str) -> FineTuningJob | None:
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(id)
    return job if job.status in ENDED else None


@pytest.mark.parametrize("extra", ["", "compose.cuda.yaml", "compose.keys.yaml"])
def test_compose_understands_its_files(build: Build, extra: str) -> None:
    files = ["-f", "docker/compose.yaml", *(["-f", f"docker/{extra}"] if extra else [])]
    environment = {**os.environ, "KEYS": "/dev/null", "HOST": "127.0.0.2", "PORT": "9001"}
    done = subprocess.run(
        [*program(), *files, "config"],
        cwd=build.tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "CORRAL_PUBLISHED: 127.0.0.2:9001" in done.stdout
    assert ("nvidia" in done.stdout) == (extra == "compose.cuda.yaml")
    assert ("/run/secrets/api_keys" in done.stdout) == (extra == "compose.keys.yaml")


def test_a_changed_tree_makes_the_image_stale(build: Build) -> None:
    page = build.tree / "server" / "corral" / "added_later.py"
    page.touch()
    try:
        done = subprocess.run(
            ["make", "serve", "RUNTIME=docker"], cwd=build.tree, capture_output=True, text=True
        )
    finally:
        page.unlink()
    assert done.returncode != 0
    assert "error: the image corral:cpu is stale" in done.stderr
    assert "make build-cpu builds it anew" in done.stderr
