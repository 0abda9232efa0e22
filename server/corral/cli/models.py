"""`corral models …`: what there is to serve. Each further verb has a file of its own."""

import json
from pathlib import Path
from typing import Any

import typer

from corral import settings as settings_module
from corral.cli import (
    models_convert,
    models_export,
    models_fit,
    models_measure,
    models_pull,
    models_quantize,
    models_registry,
)
from corral.cli.options import AsJson, Config, DataDir
from corral.registry.catalog import Catalog, Model

app = typer.Typer(help="Models and adapters at rest.", no_args_is_help=True)
app.command("add")(models_registry.add)
app.command("rm")(models_registry.remove)
app.command("verify")(models_registry.verify)
app.command("gc")(models_registry.collect)
app.command("alias")(models_registry.alias)
app.command("convert")(models_convert.convert)
app.command("export")(models_export.export)
app.command("fit")(models_fit.fit)
app.command("measure")(models_measure.measure)
app.command("pull")(models_pull.pull)
app.command("quantize")(models_quantize.quantize)
app.command("search")(models_pull.search)


@app.command("ls")
def list_models(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """List every model, and every file that cannot be served with the reason."""
    catalog = _catalog(data_dir, config)
    if as_json:
        print(json.dumps(_listing(catalog), indent=2))
    else:
        _print_table(catalog)


@app.command("show")
def show(
    name: str, as_json: AsJson = False, data_dir: DataDir = None, config: Config = None
) -> None:
    """Show one model by name or alias: what is served, and what is recorded of it."""
    model = _catalog(data_dir, config).find(name)
    settings = settings_module.load({"data_dir": data_dir}, config)
    fields = {**_fields(model), **models_registry.history(settings, model)}
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    recorded = fields.pop("manifest", {})
    more = {f"manifest.{key}": recorded[key] for key in recorded if key not in fields}
    for key, value in {**fields, **more, "manifest.source": recorded.get("source")}.items():
        if value not in (None, "", {}, []):
            shown = value if isinstance(value, str | int) else json.dumps(value)
            print(f"{key:18} {shown}")


def _catalog(data_dir: Path | None, config: Path | None) -> Catalog:
    # The reader of GGUF headers imports numpy by way of gguf: not for `corral --help`.
    from corral.registry import failures
    from corral.registry.scan import scan

    settings = settings_module.load({"data_dir": data_dir}, config)
    return failures.marked(scan(settings), settings)


def _fields(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "base": model.base,
        "path": str(model.path),
        "source": model.source,
        "bytes": model.size,
        "architecture": model.architecture,
        "context_length": model.context_length,
        "chat_template": model.has_chat_template,
        "pooling": model.pooling,
        "defaults": dict(model.defaults),
        "sha256": model.sha256,
        "description": model.description,
    }


def _listing(catalog: Catalog) -> dict[str, Any]:
    return {
        "models": [_fields(model) for model in catalog.models.values()],
        "aliases": {a: t for a, t in catalog.aliases.items() if t in catalog.models},
        "problems": [
            {"name": p.name, "path": str(p.path), "message": p.message} for p in catalog.problems
        ],
    }


def _print_table(catalog: Catalog) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "KIND", "BASE", "SIZE", "CONTEXT", "SOURCE"):
        table.add_column(heading, no_wrap=heading == "NAME")
    for model in catalog.models.values():
        size = f"{model.size / 1e6:.1f} MB"
        context = str(model.context_length or "")
        table.add_row(model.name, model.kind, model.base or "", size, context, model.source)
    Console().print(table)
    for alias, target in catalog.aliases.items():
        if target in catalog.models:
            print(f"{alias} -> {target}")
    complaints = Console(stderr=True, soft_wrap=True)
    for problem in catalog.problems:
        complaints.print(f"not served: {problem.name}: {problem.message}", markup=False)
