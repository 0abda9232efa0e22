"""What a job makes belongs to the owner of the job; who may delete it."""

import subprocess
import sys
from pathlib import Path

import pytest

from corral import database
from corral.caller import Caller
from corral.errors import ModelNotFound, PermissionDenied
from corral.files.store import Files
from corral.finetune.results import gather
from corral.finetune.service import FineTuning
from corral.jobs.queue import Queue, owner_of
from corral.registry import manifest as manifests
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.store import Registry
from corral.settings import Settings
from tests.fakes.gguf_file import write_adapter, write_model

NAME = "ft:tiny:local::0123abcd"


def tenant(owner: str) -> Caller:
    return Caller("key_" + owner, owner, frozenset({"training"}))


@pytest.fixture
def settings(clean_environment: Path, tmp_path: Path) -> Settings:
    write_model(clean_environment / "models/tiny.gguf")
    return Settings(data_dir=clean_environment, bundled_models_dir=tmp_path / "none")


def made_by_a_job(settings: Settings, owner: str, name: str = NAME) -> Path:
    """A job's folder with an adapter, whose manifest claims another owner; registered."""
    job = Queue(database.ready(settings)).submit("fine-tune", {}, owner=owner)
    out = settings.data_dir / "jobs" / str(job["id"]) / "out"
    out.mkdir(parents=True)
    write_adapter(out / "adapter.gguf", "tiny")
    files = (ManifestFile(name="adapter.gguf", role="adapter"),)
    made = Manifest(
        name=name, kind="adapter", files=files, base=BaseOf(name="tiny"), owner="somebody",
        metrics={"training": {"step": 3, "tokens": 9}},
    )  # fmt: skip
    manifests.write(made, out)
    return out


def register(out: Path) -> None:
    subprocess.run([sys.executable, "-m", "corral.jobs.register", str(out)], check=True)


def test_a_model_belongs_to_the_owner_of_its_job(settings: Settings) -> None:
    register(made_by_a_job(settings, "team"))
    assert Registry(settings).get(NAME).manifest.owner == "team"


def test_what_was_made_on_the_command_line_is_the_houses(settings: Settings) -> None:
    out = made_by_a_job(settings, "team")
    elsewhere = out.parent.with_name("now_0123456789ab")
    out.parent.rename(elsewhere)
    register(elsewhere / "out")
    assert Registry(settings).get(NAME).manifest.owner == "local"
    assert owner_of(database.ready(settings), "now_0123456789ab") == "local"


def test_result_files_belong_to_the_owner_of_the_job(settings: Settings) -> None:
    folder = made_by_a_job(settings, "team").parent
    (folder / "work/train").mkdir(parents=True)
    (folder / "work/train/metrics.csv").write_text("step,train_loss\n1,2\n")
    files = Files(settings)
    found = gather(folder, NAME, files, owner_of(database.ready(settings), folder.name))
    (id,) = found["result_files"]
    assert files.get(id).owner == "team"
    assert files.list(10, owner="other") == ([], False)


def test_who_may_delete_a_tuned_model(settings: Settings) -> None:
    house = "ft:tiny:local:house:0123abcd"
    register(made_by_a_job(settings, "team"))
    register(made_by_a_job(settings, "local", house))
    with pytest.raises(ModelNotFound, match=f"there is no model `{NAME}`; GET /v1/models"):
        FineTuning.of(settings, tenant("other")).delete_model(NAME)
    with pytest.raises(ModelNotFound, match="there is no model `nothing`; GET /v1/models"):
        FineTuning.of(settings, tenant("other")).delete_model("nothing")
    with pytest.raises(PermissionDenied, match="only an administrator may delete it"):
        FineTuning.of(settings, tenant("other")).delete_model(house)
    assert FineTuning.of(settings, tenant("team")).delete_model(NAME)["deleted"]
    assert FineTuning.of(settings).delete_model(house)["deleted"]
