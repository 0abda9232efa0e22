"""kill -9 at every step of what changes the registry: the artifact is whole or not there, and what
is left over is collected."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral import database
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes import killed_registry
from tests.fakes.killed_registry import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
Names = list[tuple[str, int]]
SHARDS = 3
# Before and after each scenario: the names and revisions that there are.
OUTCOMES: dict[str, tuple[Names, Names]] = {
    "add": ([], [("tiny", 1)]),
    "add shards by moving": ([], [("big", 1)]),
    "add a revision": ([("tiny", 1)], [("tiny", 2)]),
    "add an adapter": ([("tiny", 1)], [("ft:tiny:local::1", 1), ("tiny", 1)]),
    "remove": ([("tiny", 1)], []),
    "collect": ([("tiny", 1)], [("tiny", 1)]),
}
AT_LEAST = {
    "add": {
        "claim written",
        "store claimed",
        "temporary made",
        "bytes hashed",
        "blob named",
        "row written",
    },
    "add shards by moving": {"source on disk", "blob named", "committed", "source removed"},
    "add a revision": {"shelf file set out", "row written", "committed"},
    "add an adapter": {"shelf folder made", "row written", "committed"},
    "remove": {"row removed", "removal committed"},
    "collect": {"garbage removed"},
}


def kill_at_every_step(scenario: str, folder: Path) -> list[str]:
    """The steps at which children were killed: the k-th left its registry in FOLDER/k."""
    command = [sys.executable, "-m", "tests.fakes.killed_registry", scenario, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps: list[str] = json.loads(done.stdout)
    return steps


def names(registry: Registry) -> Names:
    return [(a.name, a.manifest.revision) for a in registry.everything()]


def assert_only_what_is_named(registry: Registry) -> None:
    """On disk there is what the rows name, whole, and nothing else."""
    artifacts = registry.everything()
    blobs = {path.name for path in (registry.blobs.blobs / "sha256").glob("*/*")}
    assert blobs == {file.sha256 for a in artifacts for file in a.manifest.files}
    on_shelf = set(registry.blobs.shelf.glob("*/*"))
    assert on_shelf == {a.path(file) for a in artifacts for file in a.manifest.files}
    assert {path.name for path in registry.blobs.shelf.glob("*")} == {a.id for a in artifacts}
    assert list(registry.blobs.incoming.glob("*")) == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_step_leaves_a_sound_store(scenario: str, tmp_path: Path) -> None:
    before, after = OUTCOMES[scenario]
    steps = kill_at_every_step(scenario, tmp_path)
    assert set(steps) >= AT_LEAST[scenario]
    for number, step in enumerate(steps, 1):
        folder = tmp_path / str(number)
        assert json.loads((folder / "steps").read_text()) == steps[:number]
        registry = Registry(killed_registry.settings(folder))
        there = names(registry)
        assert there in (before, after), (number, step)
        if scenario == "add shards by moving" and there == before:
            # What is to be moved is given up only when it is registered.
            assert len(list((folder / "in").glob("big-*.gguf"))) == SHARDS, (number, step)
        assert registry.verify() == [], (number, step)
        registry.gc()
        assert names(registry) == there
        assert registry.verify() == [], (number, step)
        assert_only_what_is_named(registry)
        if scenario not in ("remove", "collect"):
            _, act = SCENARIOS[scenario]
            act(registry, folder / "in", lambda count: None)
            assert names(registry) == after, (number, step)
            assert registry.verify() == []


def test_processes_that_start_at_once_upgrade_it_once(tmp_path: Path) -> None:
    """All wait, imports done, until their input ends at the same moment."""
    program = (
        "import sys; from pathlib import Path; from alembic import command\n"
        "from corral import database; from corral.settings import Settings\n"
        "from corral.registry.store import Registry\n"
        "settings = Settings(data_dir=Path(sys.argv[1]))\n"
        "print('waiting', flush=True); sys.stdin.read()\n"
        "database.ready(settings); print(Registry(settings)._database_id())"
    )
    gate, release = os.pipe()
    command = [sys.executable, "-c", program, str(tmp_path)]
    children = [
        subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    os.close(gate)
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
    os.close(release)
    ids = {child.communicate()[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert len(ids) == 1
    with database.reading(database.ready(Settings(data_dir=tmp_path))) as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM identity").scalar() == 1
