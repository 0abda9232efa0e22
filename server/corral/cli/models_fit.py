"""`corral models fit`: does a model fit this machine or a GPU, in which type, and could it be trained."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import settings as settings_module
from corral.cli.options import AsJson, Config, DataDir
from corral.errors import BadRequest, ModelNotFound
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.registry.fit import Place
    from corral.registry.fit_subject import Subject, Wish


def fit(
    name: Annotated[str, typer.Argument(help="Model, GGUF file, URL, or OWNER/REPO[:QUANT].")],
    ctx: Annotated[
        int | None, typer.Option("--ctx", min=128, help="Tokens in one conversation.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=256, help="Conversations at once.")
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option(help="Also for this GPU, or a size (`24GB`). Repeatable.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Tell how much memory a model takes here and on a GPU, and which quantisation to take.

    Of a model on a hub only the header is read. `fits` means: and 1 GiB stays free.
    """
    settings = settings_module.load({"data_dir": data_dir}, config)
    report = report_of(name, ctx, slots, gpu or [], settings)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)


def report_of(
    name: str, ctx: int | None, slots: int | None, gpus: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """All that is known of `name`, JSON-ready."""
    from corral.registry.fit_subject import Wish
    from corral.registry.gpus import named_gpu

    named = [named_gpu(gpu) for gpu in gpus]  # before anything is fetched
    wish = Wish(ctx, settings.ctx_size, slots or settings.slots)
    report = describe(_subject(name, wish, settings), [*_here(settings), *named])
    if settings.prompt_cache_mib:
        text = f"serving also keeps past prompts in up to {settings.prompt_cache_mib} MiB of RAM"
        report["notes"].append(f"{text} (`prompt_cache_mib`)")
    return report


def _here(settings: Settings) -> "list[Place]":
    from corral import machine
    from corral.registry.fit import Place

    idle = "idle: this build of llama.cpp cannot use it (`make build BACKEND=cuda`)"
    ram = machine.memory()
    return [
        Place(ram.name, ram.total, ram.free, is_gpu=False),
        *(
            Place(gpu.name, gpu.total, gpu.free, "" if gpu.usable else idle)
            for gpu in machine.gpus(settings.llama_bin_dir)
        ),
    ]


def _subject(name: str, wish: "Wish", settings: Settings) -> "Subject":
    from corral.registry import fit_subject
    from corral.registry.remote_header import read_remote_header

    bin_dir = settings.llama_bin_dir
    if name.startswith(("http://", "https://")):
        shards = [(name.rpartition("/")[2], read_remote_header(name))]
        return fit_subject.remote(name, shards, wish, bin_dir)
    if name.endswith(".gguf") and Path(name).is_file():
        return fit_subject.local(name, Path(name), wish, bin_dir)
    return _in_catalog(name, wish, settings) or _on_hub(name, wish, settings)


def _in_catalog(name: str, wish: "Wish", settings: Settings) -> "Subject | None":
    """The model of that name, for an adapter its base; None when it can only be on a hub."""
    from corral.registry import fit_subject
    from corral.registry.scan import scan

    catalog = scan(settings)
    try:
        model = catalog.find(name)
    except ModelNotFound:
        if "/" in name and not name.endswith(".gguf"):
            return None
        raise
    if model.kind != "adapter":
        return fit_subject.local(model.name, model.path, wish, settings.llama_bin_dir)
    base = catalog.models[model.base or ""]
    subject = fit_subject.local(base.name, base.path, wish, settings.llama_bin_dir)
    note = f"`{model.name}` is an adapter of {_size(model.size)} over `{base.name}`"
    return replace(subject, notes=(*subject.notes, f"{note}; the figures are the base's"))


def _on_hub(name: str, wish: "Wish", settings: Settings) -> "Subject":
    from corral.registry import fit_subject
    from corral.registry.hub import Hub
    from corral.registry.hub_files import check_repo
    from corral.registry.patience import Patience

    repo, _, quant = name.partition(":")
    check_repo(repo, quant)
    access = settings_module.hub_access()
    if access.offline:
        raise BadRequest(f"`{name}` is not here, and HF_HUB_OFFLINE is set", param="name")
    listing = Hub(access, Patience(tell=lambda text: typer.echo(text, err=True))).listing(repo)
    return fit_subject.on_hub(name, quant.upper(), listing, access, wish, settings.llama_bin_dir)


def describe(subject: "Subject", places: "Sequence[Place]") -> dict[str, Any]:
    """The report as one JSON object; all sizes in bytes."""
    from corral.registry.fit import best, layers_that_fit
    from corral.registry.fit_training import training

    need, shape = subject.need, subject.shape
    rest = need.total - need.weights
    chosen = {place.name: best(subject.candidates, need, place) for place in places}
    return {
        "name": subject.name,
        "file": subject.file,
        "architecture": shape.architecture,
        "parameters": shape.parameters,
        "type": subject.type,
        "trained_context": shape.header.context_length,
        "context": subject.serving.context,
        "slots": subject.serving.slots,
        "method": need.method,
        "need": {
            "weights": need.weights,
            "kv_cache": need.kv_cache,
            "compute": need.compute,
            "process": need.process,
            "total": need.total,
        },
        "memory": [
            {
                "name": place.name,
                "total": place.total,
                "free": place.free,
                "fits": place.holds(need.total),
                "gpu_layers": layers_that_fit(shape, need, place) if place.is_gpu else None,
                "take": taken.type if (taken := chosen[place.name]) else None,
                "note": place.note,
            }
            for place in places
        ],
        "types": [
            {
                "type": one.type,
                "file": one.file,
                "weights": one.weights,
                "total": one.weights + rest,
                "needs_imatrix": one.needs_imatrix,
                "fits": {place.name: place.holds(one.weights + rest) for place in places},
            }
            for one in subject.candidates
        ],
        "training": [
            vars(one) | {"total": one.total, "total_checkpointed": one.total_checkpointed}
            for one in training(shape, subject.serving.context)
        ],
        "notes": [*subject.notes, *_notes(subject)],
    }


def _notes(subject: "Subject") -> list[str]:
    trained = subject.shape.header.context_length
    if trained and subject.serving.context > trained:
        return [f"{subject.serving.context} tokens are more than the {trained} it was trained for"]
    return []


def _size(count: int) -> str:
    return f"{count / 1024**3:,.2f} GiB" if count >= 1024**3 else f"{count / 1024**2:,.1f} MiB"


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    print(
        f"{report['name']}: {report['architecture']}, {report['parameters']:,} parameters, "
        f"{report['type']}; {report['slots']} x {report['context']} tokens"
    )
    parts = (f"{key} {_size(value)}" for key, value in report["need"].items() if key != "total")
    print(f"needs {_size(report['need']['total'])}: {', '.join(parts)} (by {report['method']})\n")
    for table in (_memory_table(report), _types_table(report), _training_table(report)):
        console.print(table)
        print()
    for note in report["notes"]:
        print(f"note: {note}")


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        numeric = heading not in ("MEMORY", "TYPE", "TRAINING", "FILE", "TAKE", "FITS", "")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    return table


def _memory_table(report: dict[str, Any]) -> Any:
    table = _table("MEMORY", "TOTAL", "FREE", "FITS", "GPU LAYERS", "TAKE", "")
    for place in report["memory"]:
        fits = "yes" if place["fits"] else "no"
        sizes = (_size(place["total"]), _size(place["free"]))
        layers = str(place["gpu_layers"]) if place["gpu_layers"] is not None else ""
        table.add_row(place["name"], *sizes, fits, layers, place["take"] or "none", place["note"])
    return table


def _types_table(report: dict[str, Any]) -> Any:
    table = _table("TYPE", "WEIGHTS", "IN ALL", "FITS", "FILE")
    for one in report["types"]:
        where = ", ".join(name for name, fits in one["fits"].items() if fits) or "nowhere"
        label = one["type"] + (" (imatrix)" if one["needs_imatrix"] else "")
        table.add_row(label, _size(one["weights"]), _size(one["total"]), where, one["file"])
    return table


def _training_table(report: dict[str, Any]) -> Any:
    table = _table("TRAINING", "TRAINED", "WEIGHTS", "GRADIENTS", "ADAM", "IN ALL", "CHECKPOINTED")
    for one in report["training"]:
        parts = (one[key] for key in ("weights", "gradients", "optimiser", "total"))
        sizes = (_size(part) for part in (*parts, one["total_checkpointed"]))
        table.add_row(one["method"], f"{one['trained']:,}", *sizes)
    return table
