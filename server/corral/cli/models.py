"""`corral models …`: what there is to serve."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from corral import settings as settings_module
from corral.registry.catalog import Catalog, Model

app = typer.Typer(help="Models and adapters: list, show.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[Path | None, typer.Option(help="Data directory.")]
Config = Annotated[Path | None, typer.Option(help="Settings file.")]


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
    """Show one model by name or alias."""
    model = _catalog(data_dir, config).find(name)
    fields = _fields(model)
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    for key, value in fields.items():
        if value not in (None, "", {}):
            print(f"{key:16} {value}")


def _catalog(data_dir: Path | None, config: Path | None) -> Catalog:
    # The reader of GGUF headers imports numpy by way of gguf: not for `corral --help`.
    from corral.registry.scan import scan

    return scan(settings_module.load({"data_dir": data_dir}, config))


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
