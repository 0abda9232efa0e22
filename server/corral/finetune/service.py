"""Fine-tuning jobs: create, list, cancel, pause … Blocking; routes call it through threads, the
command line directly. Every answer is JSON-ready, as OpenAI's API has it."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import RowMapping

from corral import database
from corral.caller import ANYBODY, HOUSE, Caller
from corral.errors import BadRequest, CorralError, ModelNotFound, NotFound, PermissionDenied
from corral.files.store import Files
from corral.finetune import KIND, full, names, start
from corral.finetune.objects import checkpoint_object, event_object, job_object
from corral.finetune.schemas import SEED_MAX, CreateJob
from corral.finetune.spec import Spec
from corral.jobs.queue import Queue, new_id
from corral.jobs.runner import clear
from corral.pages import page
from corral.registry.bundled import entries
from corral.registry.catalog import PROVIDER_PREFIX, Model
from corral.registry.quant_types import quant_types
from corral.registry.scan import scan
from corral.registry.store import Registry
from corral.settings import Settings

LIMIT, LIMIT_MAX = 20, 100
# Kills in a row without a checkpoint between them that a job survives, and one.
ATTEMPTS = 5
# How the names of models begin that jobs have made: adapters, and whole models.
FINE_TUNED = ("ft:", "ft-")
PAGE = 100
TRAINING_PURPOSES = ("fine-tune",)
EVALUATION_PURPOSES = ("fine-tune", "evals", "user_data")


class FineTuning:
    """The jobs of one data directory, as `asking` sees them: what is not theirs is not there. Cheap to
    make."""

    def __init__(
        self,
        settings: Settings,
        files: Files,
        queue: Queue,
        registry: Registry,
        asking: Caller = ANYBODY,
    ) -> None:
        self._settings, self._files = settings, files
        self._queue, self._registry = queue, registry
        self._asking = asking

    @classmethod
    def of(cls, settings: Settings, asking: Caller = ANYBODY) -> "FineTuning":
        """Those of the settings' data directory."""
        queue = Queue(database.ready(settings))
        return cls(settings, Files(settings), queue, Registry(settings), asking)

    def create(self, request: CreateJob | Mapping[str, Any]) -> dict[str, Any]:
        """Put a job at the end of the line. BadRequest, or NotFound for the model, names the field."""
        if not isinstance(request, CreateJob):
            request = CreateJob.parse(request)
        base, begin = self._models(request.model)
        spec = self._spec(request, base, begin)
        body, job_id = json.loads(spec.model_dump_json()), new_id()
        folder = self._folder(job_id)
        if begin:
            start.keep(begin.path, folder)
        try:
            row = self._queue.submit(
                KIND, body, owner=self._asking.owner, attempts=ATTEMPTS, job_id=job_id
            )
        except CorralError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job_object(row)

    def list(
        self,
        limit: int = LIMIT,
        after: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A page of jobs, the newest first: those with all pairs of `metadata`, where it is given
        (empty: those without any)."""
        found = list[RowMapping]()
        for row in self._rows(self._after(after)):
            if not _matches(row, metadata):
                continue
            if len(found) == limit:
                return page([job_object(row) for row in found], True)
            found.append(row)
        return page([job_object(row) for row in found], False)

    def get(self, job_id: str) -> dict[str, Any]:
        """One job; NotFound."""
        return job_object(self._row(job_id))

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel it; one that runs has ended within seconds. Conflict when it has ended otherwise."""
        row = self._queue.cancel(self._row(job_id)["id"])
        if row["status"] == "cancelled":  # no worker has it, to remove what it has kept
            clear(self._folder(row["id"]))
        return job_object(row)

    def pause(self, job_id: str) -> dict[str, Any]:
        """Stop it with a checkpoint until `resume`. Conflict when it has ended."""
        return self._do(job_id, self._queue.pause)

    def resume(self, job_id: str) -> dict[str, Any]:
        """Let it go on where it has stopped. Conflict when it has ended."""
        return self._do(job_id, self._queue.resume)

    def events(self, job_id: str, limit: int = LIMIT, after: str | None = None) -> dict[str, Any]:
        """A page of its events, the newest first."""
        before = names.event_number(after) if after else None
        job = self._row(job_id)
        rows, more = self._queue.events(job["id"], limit, before=before)
        return page([event_object(row, job) for row in rows], more)

    def checkpoints(self, job_id: str, limit: int = 10, after: str | None = None) -> dict[str, Any]:
        """A page of its checkpoints, the newest first; none before it has succeeded."""
        row = self._row(job_id)
        made = row["result"]["result"]["checkpoints"] if row["status"] == "succeeded" else []
        ids = [each["id"] for each in made]
        if after and after not in ids:
            raise BadRequest(
                f"`{after[:80]}` is no checkpoint of job {job_id}; GET …/checkpoints lists them",
                param="after",
            )
        rest = made[ids.index(after) + 1 :] if after else made
        return page([checkpoint_object(each, row) for each in rest[:limit]], len(rest) > limit)

    def delete_model(self, name: str) -> dict[str, Any]:
        """Forget a fine-tuned model, or a checkpoint of one; its files go with the next `models gc`."""
        plain = name.removeprefix(PROVIDER_PREFIX)
        self._check_deletable(plain)
        self._registry.remove(plain)
        return {"id": name, "object": "model", "deleted": True}

    # ---- inside ----------------------------------------------------------------------------------

    def _check_deletable(self, name: str) -> None:
        """PermissionDenied for what is no fine-tuned model, or the house's; ModelNotFound for another
        owner's, naming no other."""
        whose = self._asking.only
        there = self._registry.revisions(name)
        owner = there[0].manifest.owner if there else HOUSE
        known = bool(there) or name in entries(self._settings.bundled_models_dir)
        if whose is not None and (not known or owner not in (whose, HOUSE)):
            raise ModelNotFound(
                f"there is no model `{name[:200]}`; GET /v1/models lists them", param="model"
            )
        if known and not name.startswith(FINE_TUNED):
            raise PermissionDenied(
                f"`{name}` is no fine-tuned model; `corral models rm` removes other models, on the "
                "machine itself",
                param="model",
            )
        if whose not in (None, owner):
            raise PermissionDenied(
                f"`{name}` is for everybody; only an administrator may delete it", param="model"
            )

    def _spec(self, request: CreateJob, base: Model, begin: Model | None) -> Spec:
        """The request with every name resolved and every default that is ours filled in."""
        options, ignored = request.options()
        if begin:
            options = start.options_from(begin, options)
        if options.engine == full.ENGINE:
            full.check(request, base)
            ignored += full.unused(request, options)
        suffix = names.clean_suffix(request.suffix) if request.suffix else ""
        names.check_length(base.name, suffix)
        for field in ("training_file", "validation_file"):
            self._check_file(getattr(request, field), field, TRAINING_PURPOSES)
        self._check_file(options.evaluation_file, "corral.evaluation_file", EVALUATION_PURPOSES)
        if request.integrations and find_spec("wandb") is None:
            raise BadRequest(
                "`integrations`: the package `wandb` is not installed where Corral runs; "
                "`pip install wandb` there, or leave it out",
                param="integrations",
            )
        if options.quantise:
            self._check_types(options.quantise)
        seed = request.seed if request.seed is not None else secrets.randbelow(SEED_MAX)
        return Spec(
            model=base.name,
            start=begin.name if begin else "",
            asked=request.model.removeprefix(PROVIDER_PREFIX),
            training_file=request.training_file,
            validation_file=request.validation_file,
            suffix=suffix,
            seed=seed,
            method=request.method.type,
            **request.hyper().given(),
            options=options,
            metadata=request.metadata,
            integrations=request.integrations or (),
            ignored=ignored,
        )

    def _models(self, asked: str) -> tuple[Model, Model | None]:
        """The base to train, and the adapter to go on from where one is named itself. An alias of an
        adapter (`gpt-4o-mini` is one) means the adapter's base."""
        catalog = scan(self._settings).seen_by(self._asking)
        model = catalog.find(asked)
        if model.kind == "adapter" and model.base:
            named = model.name == unquote(asked).removeprefix(PROVIDER_PREFIX)
            return catalog.find(model.base), model if named else None
        if model.kind == "base":
            return model, None
        raise BadRequest(
            f"`{model.name}` is an embedding model, which cannot be fine-tuned; choose a chat model",
            param="model",
        )

    def _check_file(self, file_id: str | None, field: str, purposes: tuple[str, ...]) -> None:
        if file_id is None:
            return
        try:
            purpose = self._files.get(file_id, self._asking.only).purpose
        except NotFound:
            raise BadRequest(
                f"`{field}`: there is no file `{file_id}`; POST /v1/files uploads one, with the "
                f"purpose `{purposes[0]}`",
                param=field,
                code="invalid_file",
            ) from None
        if purpose not in purposes:
            raise BadRequest(
                f"`{field}`: `{file_id}` was uploaded with the purpose `{purpose}`; it must be "
                f"`{purposes[0]}`",
                param=field,
                code="invalid_file",
            )

    def _check_types(self, wanted: tuple[str, ...]) -> None:
        known = quant_types(self._settings.llama_bin_dir)
        for name in wanted:
            try:
                known.find(name)
            except BadRequest as error:
                raise BadRequest(
                    f"`corral.quantise`: {error.message}", param="corral.quantise"
                ) from None

    def _folder(self, queue_id: str) -> Path:
        return self._settings.data_dir / "jobs" / queue_id

    def _row(self, job_id: str) -> RowMapping:
        try:
            row = self._queue.get(names.queue_id(job_id), self._asking.only)
        except NotFound:
            raise names.unknown_job(job_id) from None
        if row["kind"] != KIND:
            raise names.unknown_job(job_id)
        return row

    def _do(self, job_id: str, change: Callable[[str], RowMapping]) -> dict[str, Any]:
        return job_object(change(self._row(job_id)["id"]))

    def _after(self, job_id: str | None) -> str | None:
        if job_id is None:
            return None
        try:
            return str(self._row(job_id)["id"])
        except NotFound:
            raise names.unknown_job(job_id, param="after") from None

    def _rows(self, after: str | None) -> Iterator[RowMapping]:
        more = True
        while more:
            rows, more = self._queue.list(PAGE, after, kind=KIND, owner=self._asking.only)
            yield from rows
            after = rows[-1]["id"] if rows else None


def _matches(row: RowMapping, metadata: Mapping[str, str] | None) -> bool:
    there: dict[str, str] = row["spec"].get("metadata") or {}
    if metadata is None:
        return True
    if not metadata:
        return not there
    return all(there.get(name) == value for name, value in metadata.items())
