"""Gather what a job has made: its result files, and the figures that the API shows. The last stage
before the registration.

    python -m corral.finetune.results FOLDER NAME

FOLDER is the job's. Can be run again: the files' ids follow from the job's.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from corral import database
from corral import settings as settings_module
from corral.caller import HOUSE
from corral.errors import Conflict, CorralError
from corral.files.store import Files
from corral.finetune.names import checkpoint_id, checkpoint_step, result_file_id
from corral.finetune.stage_events import Events
from corral.jobs.queue import owner_of
from corral.registry import manifest as manifests
from corral.registry.manifest import Manifest, ManifestFile

PURPOSE = "fine-tune-results"
# Where a stage leaves it, and its name for clients.
RESULT_FILES = {
    "train/metrics.csv": "step_metrics.csv",
    "evaluation.json": "evaluation.json",
    "evaluation.html": "evaluation.html",
}
METRICS = (
    "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy",
    "full_valid_loss", "full_valid_mean_token_accuracy",
)  # fmt: skip


def main() -> None:
    """Gather what is in the folder that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--merged", type=Path, help="register this model as well")
    parser.add_argument("--events", type=Path)
    args = parser.parse_args()
    events = Events(args.events)
    try:
        settings = settings_module.load()
        owner = owner_of(database.ready(settings), args.folder.resolve().name)
        if args.merged:
            add_merged(args.merged, args.folder / "out", args.name)
        events.result(gather(args.folder, args.name, Files(settings), owner))
    except CorralError as error:
        events.fail(error)


def add_merged(path: Path, out: Path, name: str) -> None:
    """Put the merged model beside the adapter, with a manifest, to be registered."""
    tuned = manifests.read(out / f"{name.replace(':', '_')}{manifests.SUFFIX}")
    if path.is_file():
        path.replace(out / path.name)
    made = Manifest(
        name=path.stem,
        files=(ManifestFile(name=path.name),),
        base=tuned.base,
        start=tuned.start,
        description=f"{name} and its base in one",
        settings=tuned.settings,
        seed=tuned.seed,
        metrics=tuned.metrics,
    )
    manifests.write(made, out)


def gather(folder: Path, name: str, files: Files, owner: str = HOUSE) -> dict[str, Any]:
    """Store the result files as this owner's; what the API shows of a job that has succeeded."""
    found = [manifests.read(path) for path in sorted((folder / "out").glob(f"*{manifests.SUFFIX}"))]
    model = next(each for each in found if each.name == name)
    facts = model.metrics["training"]
    ids = []
    for place, filename in RESULT_FILES.items():
        path = folder / "work" / place
        if path.is_file():
            id = result_file_id(folder.name, filename)
            _store(files, path, filename, id, folder.name, owner)
            ids.append(id)
    return {
        "fine_tuned_model": name,
        "result_files": ids,
        "trained_tokens": facts.get("tokens"),
        "training": facts,
        "n_epochs": model.settings.get("epochs"),
        "checkpoints": [_checkpoint(each, folder.name) for each in _in_order(found, model)],
        "whole_models": [each.name for each in found if each.kind == "base"],
        "evaluation": _summary(folder / "work" / "evaluation.json"),
    }


def _store(files: Files, path: Path, filename: str, id: str, job_id: str, owner: str) -> None:
    add = partial(
        files.add_local,
        path,
        filename=filename,
        purpose=PURPOSE,
        file_id=id,
        job_id=job_id,
        owner=owner,
    )
    try:
        add()
    except Conflict:  # a stage before was run again, and measured other times
        files.delete(id)
        add()


def _in_order(found: list[Manifest], model: Manifest) -> list[Manifest]:
    """The model's checkpoints, the newest first; it is the newest itself, also where it is no adapter."""
    ours = [each for each in found if each.kind == "adapter" or each is model]
    return sorted(ours, key=lambda each: int(each.metrics["training"]["step"]), reverse=True)


def _checkpoint(made: Manifest, folder: str) -> dict[str, Any]:
    figures = made.metrics["training"]
    step = checkpoint_step(made.name) or int(figures["step"])
    # The trainer calls it by the name of OpenAI's result file.
    figures = {"train_mean_token_accuracy": figures.get("train_accuracy")} | figures
    metrics = {name: figures[name] for name in METRICS if figures.get(name) is not None}
    return {
        "id": checkpoint_id(folder, step),
        "name": made.name,
        "step": step,
        "metrics": {"step": step, **metrics},
    }


def _summary(path: Path) -> dict[str, Any] | None:
    """The evaluation without its long parts."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text("utf-8"))
    short = [
        {name: value for name, value in model.items() if isinstance(value, int | float | str)}
        for model in found.get("models", [])
    ]
    return {"rows": found.get("rows"), "models": short}


if __name__ == "__main__":
    main()
