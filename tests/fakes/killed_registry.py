"""A program that does one thing to a registry and is killed at every step of it, one after another.

    python -m tests.fakes.killed_registry SCENARIO FOLDER

For k = 1, 2, … a child prepares a fresh registry in FOLDER/k, begins the scenario, and at its k-th
step kills itself with SIGKILL, which nothing can catch. Ends at the first k that is never reached.
Prints the steps, one JSON list.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from alembic import command  # noqa: F401  imported once here, not once in each child
from gguf import constants  # noqa: F401

from corral.registry.blobs import AtStep
from corral.registry.disk import OnBytes
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.artifacts import adapter, base_model, split_model


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder / "data", bundled_models_dir=folder / "none")


def nothing(_: Registry, inbox: Path) -> None:
    base_model(inbox)


def one_model(registry: Registry, inbox: Path) -> None:
    registry.add(base_model(inbox), inbox)


def garbage(registry: Registry, inbox: Path) -> None:
    one_model(registry, inbox)
    registry.add(split_model(inbox), inbox)
    registry.add(base_model(inbox, "twin"), inbox)  # the blob of `tiny`
    registry.remove("big")
    registry.remove("twin")
    (registry.blobs.incoming / "torn").write_bytes(b"torn")


def add(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    registry.add(base_model(inbox), inbox, on_bytes=on_bytes)


def add_shards_by_moving(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    registry.add(split_model(inbox), inbox, move=True, on_bytes=on_bytes)


def add_revision(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    manifest = base_model(inbox, text="two")
    registry.add(manifest, inbox, replace=True, on_bytes=on_bytes)


def add_adapter(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    registry.add(adapter(inbox, "ft:tiny:local::1"), inbox, on_bytes=on_bytes)


def remove(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    registry.remove("tiny")


def collect(registry: Registry, inbox: Path, on_bytes: OnBytes) -> None:
    registry.gc()


Action = Callable[[Registry, Path, OnBytes], None]
# What is there before, and what is then done and killed.
SCENARIOS: dict[str, tuple[Callable[[Registry, Path], None], Action]] = {
    "add": (nothing, add),
    "add shards by moving": (nothing, add_shards_by_moving),
    "add a revision": (one_model, add_revision),
    "add an adapter": (one_model, add_adapter),
    "remove": (one_model, remove),
    "collect": (garbage, collect),
}


def counting(folder: Path, last: int) -> AtStep:
    """Notes each step in FOLDER/steps, and kills this process at the last one."""
    seen: list[str] = []

    def at_step(step: str) -> None:
        seen.append(step)
        (folder / "steps").write_text(json.dumps(seen))
        if len(seen) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_step


def attempt(scenario: str, folder: Path, last: int) -> None:
    """Prepare a registry, then do the scenario up to its step number `last`."""
    prepare, act = SCENARIOS[scenario]
    inbox = folder / "in"
    inbox.mkdir(parents=True)
    prepare(Registry(settings(folder)), inbox)
    at_step = counting(folder, last)
    act(Registry(settings(folder), at_step), inbox, lambda count: at_step("bytes hashed"))


def main(scenario: str, root: Path) -> None:
    """Kill one child at each step."""
    for last in range(1, 1000):
        folder = root / str(last)
        child = os.fork()
        if child == 0:
            attempt(scenario, folder, last)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            print((folder / "steps").read_text())
            return
        if status != -signal.SIGKILL:
            sys.exit(f"the child at step {last} ended with {status}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
