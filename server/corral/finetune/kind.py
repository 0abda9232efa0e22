"""A fine-tuning job as a kind of job: which stages its spec makes."""

from pathlib import Path

from corral.errors import BadRequest
from corral.finetune import KIND as NAME
from corral.finetune import full
from corral.finetune.spec import Spec
from corral.finetune.stages import AdapterStages, WholeStages
from corral.finetune.start import kept_in
from corral.jobs.kinds import Kind, Stage
from corral.registry.scan import scan
from corral.settings import Settings


def plan(spec: Spec, settings: Settings, folder: Path) -> tuple[Stage, ...]:
    """The stages over the base as it is served here."""
    base = scan(settings).find(spec.model)
    if base.kind != "base":
        raise BadRequest(f"`{spec.model}` is no longer a model to train", param="model")
    if spec.start and not kept_in(folder).is_file():
        raise BadRequest(
            f"the job's copy of `{spec.start}` is gone; submit it again", param="model"
        )
    made = WholeStages if spec.options.engine == full.ENGINE else AdapterStages
    return made(spec, settings, folder, base).all()


KIND = Kind(NAME, Spec, plan)
