"""Run scripts/fetch_model.py against a fake hub: here, with what it told, or as a process."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fetch_model
import stage
from corral.registry import manifest as manifests
from corral.registry.manifest import Manifest
from corral.registry.patience import Patience
from tests.fakes.hub_server import HubServer

SCRIPT = Path(fetch_model.__file__)


@dataclass(frozen=True)
class Fetcher:
    """Fetches into `out`, by the cache `cache`, with what `hub` has."""

    folder: Path
    hub: HubServer
    # The seconds that a fetch in this process would have waited before asking again.
    waited: list[float] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        return self.folder / "hub"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    def environment(self, token: str = "") -> dict[str, str]:
        found = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_CACHE": str(self.cache),
            "HF_HOME": "/nowhere",
        }
        return found | ({"HF_TOKEN": token} if token else {})

    def run(self, *words: str | Path) -> dict[str, Any]:
        """Fetch in this process; the result. Raises what the script would print."""
        args = fetch_model.arguments([*map(str, words), "--out", str(self.out)])
        self.events.unlink(missing_ok=True)
        with self.events.open("a", encoding="utf-8") as file:
            fetch_model.main(args, stage.Reporter(file))
        (result,) = self.told("result")
        data: dict[str, Any] = result["data"]
        return data

    def start(
        self, *words: str, token: str = "", events: str = "p.jsonl"
    ) -> "subprocess.Popen[str]":
        """Fetch in a process of its own; its events go to `folder / events`."""
        argv = [sys.executable, str(SCRIPT), *words, "--out", str(self.folder / f"out-{events}")]
        argv += ["--events", str(self.folder / events)]
        environment = {"PATH": "/usr/bin:/bin", **self.environment(token)}
        environment["CORRAL_DATA"] = str(self.folder / "data")
        return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)

    def told(self, kind: str, events: str = "events.jsonl") -> list[dict[str, Any]]:
        """The events of one kind."""
        path = self.folder / events
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["type"] == kind]

    def messages(self, events: str = "events.jsonl") -> list[str]:
        return [event["text"] for event in self.told("message", events)]

    def manifest(self) -> Manifest:
        """The only manifest in `out`."""
        (path,) = self.out.glob("*.manifest.json")
        return manifests.read(path)

    def part(self, repo: str, path: str) -> Path:
        """Where an unfinished download of that file is."""
        file = self.hub.repos[repo].files[path]
        blobs = self.cache / f"models--{repo.replace('/', '--')}" / "blobs"
        return blobs / f"{file.etag}.downloadInProgress"


def fetcher(folder: Path, hub: HubServer, patch: pytest.MonkeyPatch, token: str = "") -> Fetcher:
    """A fetcher whose environment is in force here, and that notes waits instead of waiting."""
    made = Fetcher(folder, hub)
    patch.setattr(fetch_model, "Patience", partial(Patience, wait=made.waited.append))
    for name, value in made.environment(token).items():
        patch.setenv(name, value)
    return made
