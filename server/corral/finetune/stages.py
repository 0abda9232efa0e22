"""The stages of a fine-tuning job: validate, render, train, parity; merge and quantize where whole models were
asked for; evaluate; the gate of quantised ones; results; then the registration. Every stage can be killed and run again.

    work/input/   the rows as they are used       work/rows, work/valid   rendered
    work/train/   checkpoints, metrics.csv        work/evaluation.*       what was measured
    work/merged/  base and adapter in one         out/                    models with their manifests
"""

import json
import sys
from pathlib import Path
from typing import Any

from corral.finetune.names import model_name, public_id, whole_name
from corral.finetune.schemas import Wandb
from corral.finetune.spec import PARITY, RESULTS, TRAIN, VALIDATE, Spec
from corral.finetune.start import kept_in
from corral.finetune.validate import EVALUATION, TRAINING, VALIDATION
from corral.jobs.kinds import Stage, stage_argv
from corral.registry.catalog import Model
from corral.registry.fit import Shape
from corral.registry.fit_subject import file_type, shard_paths
from corral.registry.gguf_header import read_header
from corral.registry.quant_types import quant_types
from corral.settings import Settings

ADAPTER = "adapter.gguf"
TUNED = "tuned"  # the evaluation's name for it; a quantised one is `tuned TYPE`


class AdapterStages:
    """Of a job that makes an adapter."""

    def __init__(self, spec: Spec, settings: Settings, folder: Path, base: Model) -> None:
        self._spec, self._settings, self._folder, self._base = spec, settings, folder, base
        self._work, self._out = folder / "work", folder / "out"
        self._input = self._work / "input"
        self._start = kept_in(folder) if spec.start else None
        self._name = self._named(model_name(base.name, spec.suffix, folder.name))
        self._types = [
            quant_types(settings.llama_bin_dir).find(t).name for t in spec.options.quantise
        ]

    def all(self) -> tuple[Stage, ...]:
        parts = [Stage(VALIDATE, self._validate()), *self._rendered()]
        parts += [Stage(TRAIN, self._train()), Stage(PARITY, self._parity()), *self._made_whole()]
        if self._types:
            parts.append(Stage("quantize", self._quantize()))
        if self._spec.options.evaluate:
            parts.append(Stage("evaluate", self._evaluate()))
        if self._types:
            parts.append(Stage("gate", self._gate()))
        for number, integration in enumerate(self._spec.integrations):
            parts.append(Stage(f"wandb-{number + 1}", self._wandb(integration.wandb, number)))
        parts.append(Stage(RESULTS, self._results(), own=True))
        return tuple(parts)

    def _named(self, name: str) -> str:
        return name

    @property
    def _result(self) -> Path:
        """What training makes."""
        return self._out / ADAPTER

    @property
    def _rows(self) -> Path:
        """What is trained on."""
        return self._work / "rows"

    @property
    def _tuned(self) -> str:
        """The tuned model, as evaluate.py takes it."""
        return f"{self._base.path}+{self._result}"

    def _rendered(self) -> list[Stage]:
        parts = [Stage("render", self._render(TRAINING, "rows"))]
        if self._spec.validation_file:
            parts.append(Stage("render-valid", self._render(VALIDATION, "valid")))
        return parts

    def _made_whole(self) -> list[Stage]:
        asked = self._spec.options.merged or self._types
        return [Stage("merge", self._merge())] if asked else []

    def _validate(self) -> tuple[str, ...]:
        spec, options = self._spec, self._spec.options
        words = {
            "training": self._file(spec.training_file),
            "validation": self._file(spec.validation_file),
            "evaluation": self._file(options.evaluation_file),
            "rows": options.evaluation_rows if options.evaluate else 0,
            "method": spec.method,
            "engine": options.engine,
            "seed": spec.seed,
            "out": self._input,
        }
        notes = [f"--note={note}" for note in _notes(spec, self._base)]
        return _module("validate", *_flags(words), *notes)

    def _render(self, name: str, out: str) -> tuple[str, ...]:
        options = self._spec.options
        words = {
            "model": self._base.path,
            "file": self._input / name,
            "out": self._work / out,
            "max-length": options.max_length,
            "too-long": options.too_long,
        }
        return _beside(stage_argv("render_data.py", *_flags(words)))

    def _train(self) -> tuple[str, ...]:
        spec, options = self._spec, self._spec.options
        words: dict[str, Any] = {
            "model": self._base.path,
            **self._trained_on(),
            "valid-token-rows": self._work / "valid" if spec.validation_file else None,
            "work": self._work / "train",
            "out": self._result,
            "name": self._name,
            "base-name": self._base.name,
            "base-sha256": self._base.sha256,
            "start": self._start,
            "start-name": spec.start,
            "checkpoints": True,
            "method": spec.method,
            "seed": spec.seed,
            "epochs": spec.n_epochs,
            "batch-size": spec.batch_size,
            "rate-multiplier": spec.learning_rate_multiplier,
            "beta": spec.beta,
            "targets": ",".join(options.targets),
        }
        same = (
            "engine device rank alpha dropout rate schedule warmup clip batch_tokens micro_tokens precision "
            "gradient_checkpointing quantised_base valid_every valid_rows keep_checkpoints checkpoint_seconds"
        )
        words |= {name.replace("_", "-"): getattr(options, name) for name in same.split()}
        room: dict[str, Any] = {"device": options.device}
        if options.memory == "wait":
            room |= {"model": self._base.path, "tokens": options.micro_tokens, "rank": options.rank}
            room |= {"precision": options.precision, **self._room()}
        return _beside(stage_argv("finetune_lora.py", *_flags(words)), room)

    def _trained_on(self) -> dict[str, Path]:
        return {"rows": self._rows}

    def _room(self) -> dict[str, Any]:
        """What a training's memory depends on beside its options."""
        return {"rows": self._rows}

    def _parity(self) -> tuple[str, ...]:
        words = {
            "model": self._base.path,
            "adapter": self._result,
            "rows": self._rows,
            "file": self._input / TRAINING,
            "checkpoint": self._work / "train" / "adapter",
        }
        return _beside(stage_argv("check_parity.py", *_flags(words)))

    def _merge(self) -> tuple[str, ...]:
        words = {
            "model": self._base.path,
            "lora": self._result,
            "name": whole_name(self._name),
            "to": "folder",
            "dest": self._work / "merged",
            "bin": self._settings.llama_bin_dir,
            "force": True,
        }
        return _beside(stage_argv("export_model.py", *_flags(words)))

    @property
    def _merged(self) -> Path:
        """Where that stage leaves the merged model: 16 bits, or 32 where the base has them."""
        shape = Shape([read_header(path, details=True) for path in shard_paths(self._base.path)])
        kind = "F32" if file_type(shape) == "F32" else "F16"
        name = whole_name(self._name)
        return self._work / "merged" / name / f"{name}-{kind}.gguf"

    def _quantize(self) -> tuple[str, ...]:
        words = {
            "model": self._merged,
            "name": whole_name(self._name),
            "out": self._out,
            "bin": self._settings.llama_bin_dir,
            "replace": True,
        }
        return _beside(stage_argv("quantize_gguf.py", *_flags(words), *self._types))

    def _gate(self) -> tuple[str, ...]:
        words = {
            "base": self._merged,
            "name": whole_name(self._name),
            "manifests": self._out,
            "bin": self._settings.llama_bin_dir,
            "no-bench": True,
            "label": TUNED,
        }
        scored = {"give": f"--evaluation={self._evaluation}"}
        return _beside(stage_argv("measure_gguf.py", *_flags(words), *self._quantised()), scored)

    def _quantised(self) -> list[Path]:
        return [self._out / f"{whole_name(self._name)}-{kind}.gguf" for kind in self._types]

    @property
    def _evaluation(self) -> Path:
        """What was measured; not there where no rows were held out."""
        return self._work / "evaluation.json"

    def _evaluate(self) -> tuple[str, ...]:
        file = self._input / EVALUATION
        manifest = self._out / f"{self._name.replace(':', '_')}.manifest.json"
        words = {
            "file": file,
            "loss": True,
            "max-tokens": self._spec.options.evaluation_tokens,
            "metrics": self._work / "train" / "metrics.csv",
            "html": self._work / "evaluation.html",
            "out": self._evaluation,
            "manifest": manifest,
        }
        base = self._base.path
        before = f"before={base}+{self._start}" if self._start else f"base={base}"
        whole = zip(self._types, self._quantised(), strict=True)
        variants = [f"--variant={before}", f"--variant={TUNED}={self._tuned}"]
        variants += [f"--variant={TUNED} {kind}={path}" for kind, path in whole]
        return _beside(stage_argv("evaluate.py", *variants, *_flags(words)), {"if": file})

    def _wandb(self, wandb: Wandb, number: int) -> tuple[str, ...]:
        id = public_id(self._folder.name)
        given = self._spec.hyperparameters.given() | self._spec.options.model_dump(
            mode="json", exclude_defaults=True
        )
        words = {
            "metrics": self._work / "train" / "metrics.csv",
            "folder": self._settings.data_dir / "wandb",
            "project": wandb.project,
            "entity": wandb.entity,
            "name": wandb.name,
            "id": id if number == 0 else f"{id}-{number + 1}",
            "config": json.dumps(given),
        }
        # OpenAI's own tags.
        tags = ("openai/finetune", f"openai/{self._base.name}", f"openai/{id}", *(wandb.tags or ()))
        return _beside(stage_argv("report_wandb.py", *_flags(words), *(f"--tag={t}" for t in tags)))

    def _results(self) -> tuple[str, ...]:
        return _module("results", self._folder, self._name, *self._results_more())

    def _results_more(self) -> list[str]:
        return [f"--merged={self._merged}"] if self._spec.options.merged else []

    def _file(self, file_id: str | None) -> Path | None:
        return self._settings.data_dir / "files" / file_id if file_id else None


class WholeStages(AdapterStages):
    """Of a job that trains all weights on raw text: nothing is rendered and nothing merged."""

    def _named(self, name: str) -> str:
        return whole_name(name)

    @property
    def _result(self) -> Path:
        return self._out / f"{self._name}.gguf"

    @property
    def _rows(self) -> Path:
        return self._input / TRAINING

    @property
    def _tuned(self) -> str:
        return str(self._result)

    @property
    def _merged(self) -> Path:
        return self._result

    def _rendered(self) -> list[Stage]:
        return []

    def _made_whole(self) -> list[Stage]:
        return []

    def _trained_on(self) -> dict[str, Path]:
        return {"file": self._rows}

    def _room(self) -> dict[str, Any]:
        return {"rows": self._rows, "full": True}

    def _parity(self) -> tuple[str, ...]:
        words = {"base": self._base.path, "model": self._result, "work": self._work / "train"}
        return _beside(stage_argv("check_text_parity.py", *_flags(words)))

    def _results_more(self) -> list[str]:
        return []


def _notes(spec: Spec, base: Model) -> list[str]:
    notes = [f"hyperparameter `{name}` means nothing here and is ignored" for name in spec.ignored]
    if spec.asked and spec.asked != base.name and not spec.start:
        notes.append(f"`{spec.asked}` is another name here; the base is `{base.name}`")
    return notes


def _flags(words: dict[str, Any]) -> list[str]:
    """`--word=value`, so that no value is taken for a flag; what was not given is left out."""
    # By identity: 0 is a value, and equals False.
    given = {w: v for w, v in words.items() if v is not None and v is not False and v != ""}
    return [f"--{word}" if value is True else f"--{word}={value}" for word, value in given.items()]


def _module(name: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", f"corral.finetune.{name}", *map(str, arguments))


def _beside(program: tuple[str, ...], words: dict[str, Any] | None = None) -> tuple[str, ...]:
    """Run a program beside serving; see `beside.py`."""
    return _module("beside", *_flags(words or {}), "--", *program)
