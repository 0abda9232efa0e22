"""The adapter that a job goes on from, `model="ft:…"`.

The new adapter is trained over the same base, begins with the weights of the old one, and so has its
rank, alpha and layers. The job has a copy of its own from the moment it is made to its end: the old
model may be deleted meanwhile.
"""

import shutil
from pathlib import Path

from corral.errors import BadRequest
from corral.finetune.schemas import Options
from corral.jobs.stage_log import cannot_write
from corral.registry.catalog import Model
from corral.registry.disk import sync_file, sync_folder
from corral.registry.lora_header import read_lora

ENGINES = ("peft", "unsloth")


def options_from(start: Model, asked: Options) -> Options:
    """The options with what the adapter decides; BadRequest names the one that contradicts it."""
    if asked.engine not in ENGINES:
        raise BadRequest(
            f"the engine `{asked.engine}` cannot go on from an adapter as `{start.name}` is; use `peft`, "
            f"or train `{start.base}`",
            param="corral.engine",
        )
    lora = read_lora(start.path)
    for name, there in lora._asdict().items():
        given = getattr(asked, name)
        if given not in (None, there):
            raise BadRequest(
                f"`corral.{name}` is {given:g}, and `{start.name}`, from which the training goes on, has "
                f"{there:g}; leave it out, or train `{start.base}`",
                param=f"corral.{name}",
            )
    if asked.targets:
        raise BadRequest(
            f"`corral.targets`: the layers are those of `{start.name}`, from which the training goes on; "
            f"leave it out, or train `{start.base}`",
            param="corral.targets",
        )
    return asked.model_copy(update=lora._asdict())


def kept_in(folder: Path) -> Path:
    """Where the job with this folder has its copy: with what goes when it ends."""
    return folder / "work" / "start.gguf"


def keep(adapter: Path, folder: Path) -> None:
    """Make the copy, on the disk when it returns; a CorralError says why that cannot be."""
    path = kept_in(folder)
    try:
        path.parent.mkdir(parents=True)
        shutil.copyfile(adapter, path)
        sync_file(path)
        sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise cannot_write(path, error) from error
