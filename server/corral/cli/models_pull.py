"""`corral models pull` and `corral models search`: models from a hub, a URL or a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import settings as settings_module
from corral.cli.job_verb import absolute, run_kind
from corral.cli.options import AsJson, Config, DataDir, OnlyCorral

if TYPE_CHECKING:
    from corral.registry.hub_files import Listing

MOST_QUANTS = 8  # in a table; --json has all


def pull(
    file: Annotated[Path | None, typer.Argument(help="A GGUF file; of shards, any one.")] = None,
    hf_repo: Annotated[
        str, typer.Option("--hf-repo", help="OWNER/NAME of a hub, with :QUANT if wanted.")
    ] = "",
    hf_file: Annotated[
        str, typer.Option("--hf-file", help="Path of the file in the repository.")
    ] = "",
    url: Annotated[str, typer.Option("--url", help="Address of one GGUF file.")] = "",
    sha256: Annotated[str, typer.Option("--sha256", help="Checksum of that file.")] = "",
    name: Annotated[str, typer.Option(help="Name to serve it under. Default: the file's.")] = "",
    base: Annotated[
        str, typer.Option(help="Of an adapter: its base. Default: what the file says.")
    ] = "",
    mmproj: Annotated[
        bool, typer.Option("--mmproj/--no-mmproj", help="Fetch a vision projector beside it.")
    ] = True,
    offline: Annotated[
        bool, typer.Option("--offline", help="Take it from the hub cache, or fail.")
    ] = False,
    corral: OnlyCorral = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Fetch a model once, check every byte, and register it; it is served from then on.

    A download that was cut goes on where it was. A token for gated models comes from HF_TOKEN or
    its file; HF_ENDPOINT names another hub, HF_HUB_CACHE another cache.
    """
    from corral.shelf.pull import KIND

    given = {
        "hf_repo": hf_repo, "hf_file": hf_file, "url": url, "sha256": sha256, "name": name,
        "base": base, "mmproj": mmproj, "offline": offline, **absolute(bool(corral), file=file),
    }  # fmt: skip
    done = run_kind(KIND, given, corral=corral, data_dir=data_dir, config=config)
    if as_json:
        print(json.dumps({"registered": done["registered"], **done["result"]}, indent=2))
    else:
        _print_pulled(done["registered"], done["result"])


def search(
    words: Annotated[list[str], typer.Argument(help="Words in the repository's name.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Find GGUF repositories on the hub, most downloaded first, with sizes and licence."""
    from corral.registry.hub import Hub
    from corral.registry.patience import Patience

    hub = Hub(settings_module.hub_access(), Patience(tell=lambda text: typer.echo(text, err=True)))
    found = hub.search(" ".join(words), limit)
    if as_json:
        print(json.dumps([_fields(listing) for listing in found], indent=2))
    else:
        _print_found(found)


def _fields(listing: "Listing") -> dict[str, Any]:
    return {
        "repo": listing.repo,
        "commit": listing.commit,
        "downloads": listing.downloads,
        "licence": listing.licence,
        "gated": listing.gated,
        "quants": [{"quant": q, "bytes": size} for q, size in listing.quants().items()],
    }


def _print_pulled(registered: list[str], result: dict[str, Any]) -> None:
    fetched = (
        f"{_size(result['fetched_bytes'])} fetched" if result["fetched_bytes"] else "no download"
    )
    licence = result["licence"] or "licence not stated"
    for name in registered:
        print(f"{name}: {_size(result['bytes'])} ({fetched}), {licence}")


def _print_found(found: "list[Listing]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("REPOSITORY", "DOWNLOADS", "LICENCE", "GATED", "QUANTISATIONS"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "REPOSITORY")
    for listing in found:
        sizes = sorted(listing.quants().items(), key=lambda item: item[1])
        shown = [f"{quant} {_size(size)}" for quant, size in sizes[:MOST_QUANTS]]
        more = [f"{len(sizes) - MOST_QUANTS} more"] if len(sizes) > MOST_QUANTS else []
        gated = "yes" if listing.gated else "no"
        row = (listing.repo, f"{listing.downloads:,}", listing.licence or "?", gated)
        table.add_row(*row, ", ".join(shown + more))
    Console().print(table)
    if not found:
        typer.echo("nothing found; try fewer words", err=True)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
