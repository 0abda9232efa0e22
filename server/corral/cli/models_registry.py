"""`corral models add | rm | verify | gc | alias`: the registry's own verbs."""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral import settings as settings_module
from corral.cli.byte_bar import byte_bar
from corral.cli.options import AsJson, Config, DataDir
from corral.errors import BadRequest, Conflict
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.registry.artifact import Artifact
    from corral.registry.catalog import Model
    from corral.registry.verify import Finding


def add(
    files: Annotated[
        list[Path],
        typer.Argument(help="A GGUF (of shards, any one), and its mmproj if it has one."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name to serve it under. Default: the file's.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Of an adapter: its base. Default: what the file says.")
    ] = None,
    description: Annotated[str, typer.Option(help="One line about it.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Forget earlier revisions of the name.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Copy a model or adapter into the registry; it is checked first, and served from then on."""
    # What reads GGUF and databases is slow to import: not for `corral --help`.
    from corral.registry.local_files import describe
    from corral.registry.store import Registry

    local = describe(files, name, base, description)
    registry = Registry(_settings(data_dir, config))
    size = sum(path.stat().st_size for path in local.paths.values())
    with tempfile.TemporaryDirectory() as folder, byte_bar("adding", size) as on_bytes:
        local.link_into(Path(folder))
        artifact = registry.add(local.manifest, Path(folder), replace=replace, on_bytes=on_bytes)
    if as_json:
        print(json.dumps(recorded(artifact), indent=2))
    else:
        print(f"{artifact.name} revision {artifact.manifest.revision}: {_size(artifact.bytes)}")


def remove(
    name: str,
    revision: Annotated[
        int | None, typer.Option(help="Only this revision; the one before it is served then.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if adapters need it.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Remove a model from the registry, and free its disk space."""
    from corral.registry.store import Registry

    settings = _settings(data_dir, config)
    registry = Registry(settings)
    if not registry.revisions(name):
        _check_removable(settings, name)
    gone = registry.remove(name, revision=revision, force=force)
    collected = registry.gc(wait=False)
    if as_json:
        removed = [{"name": a.name, "revision": a.manifest.revision} for a in gone]
        print(json.dumps({"removed": removed, "bytes_freed": collected.bytes}, indent=2))
        return
    numbers = ", ".join(str(a.manifest.revision) for a in gone)
    print(f"{name} removed (revision {numbers}); {_size(collected.bytes)} freed")
    if not collected.done:
        print("something is being added; free the space with: corral models gc", file=sys.stderr)


def verify(
    name: Annotated[str | None, typer.Argument(help="One model; default: all.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Compare files with their recorded sha256; exit status 1 when one is missing or damaged."""
    from corral.registry.store import Registry
    from corral.registry.verify import bundled_files, verify_bundled

    settings = _settings(data_dir, config)
    registry = Registry(settings)
    registered = registry.everything() if name is None else registry.revisions(name)
    bundled = bundled_files(settings, name)
    if name is not None and not registered and not bundled:
        _explain_unverifiable(settings, name)
    sizes = {p.resolve(): p.stat().st_size for p, _ in bundled.values() if p.exists()}
    total = sum(artifact.bytes for artifact in registered) + sum(sizes.values())
    with byte_bar("verifying", total) as on_bytes:
        findings = verify_bundled(settings, name, on_bytes)
        if registered:
            findings += registry.verify(name, on_bytes)
    _print_verified(findings, len(registered) + len(bundled), total, as_json)
    if findings:
        raise typer.Exit(1)


def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Remove files that no model needs: what `rm` and killed processes left; expired uploads too."""
    from corral.registry.artifact import Collected
    from corral.registry.store import Registry

    settings = _settings(data_dir, config)
    registry = Registry(settings)
    collected = registry.gc(dry_run, wait=False)
    if not collected.done:
        print("waiting for an add to end", file=sys.stderr)
        collected = registry.gc(dry_run)
    if not dry_run:
        from corral.files.store import Files

        collected = Collected((*collected.removed, *Files(settings).sweep()))
    if as_json:
        removed = [{"path": str(path), "bytes": size} for path, size in collected.removed]
        listing = {"dry_run": dry_run, "bytes": collected.bytes, "removed": removed}
        print(json.dumps(listing, indent=2))
        return
    for path, _ in collected.removed:
        print(path)
    would = "would be freed" if dry_run else "freed"
    print(f"{len(collected.removed)} removed, {_size(collected.bytes)} {would}", file=sys.stderr)


def alias(
    name: str,
    target: Annotated[str | None, typer.Argument(help="The model that NAME is to mean.")] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Remove the alias.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Give a model another name. Aliases made here come before those of the settings."""
    from corral.registry.scan import scan
    from corral.registry.store import Registry

    settings = _settings(data_dir, config)
    if rm == (target is not None):
        raise BadRequest("give the model that the alias means, or --rm, and not both")
    meant = None
    if target is not None:
        catalog = scan(settings)
        if name in catalog.models:
            raise Conflict(f"`{name}` is a model here; choose another alias", param="name")
        meant = catalog.find(target).name
    Registry(settings).alias(name, meant)
    if as_json:
        print(json.dumps({"alias": name, "model": meant}))
    elif meant is not None:
        print(f"{name} -> {meant}")


def recorded(artifact: "Artifact") -> dict[str, Any]:
    """What the registry knows of an artifact, JSON-ready."""
    return {
        "name": artifact.name,
        "revision": artifact.manifest.revision,
        "bytes": artifact.bytes,
        "path": str(artifact.weights),
        "manifest": artifact.manifest.model_dump(mode="json"),
    }


def history(settings: Settings, model: "Model") -> dict[str, Any]:
    """The fields that `show` adds for a model of the registry; none for another."""
    from corral.registry.store import Registry

    if model.source != "registry":
        return {}
    revisions = Registry(settings).revisions(model.name)
    return {
        "revision": revisions[0].manifest.revision,
        "revisions": [_revision(artifact) for artifact in revisions],
        "manifest": revisions[0].manifest.model_dump(mode="json"),
    }


def _revision(artifact: "Artifact") -> dict[str, Any]:
    manifest = artifact.manifest.model_dump(mode="json", include={"revision", "created"})
    return {**manifest, "bytes": artifact.bytes, "sha256": artifact.main[0].sha256}


def _settings(data_dir: Path | None, config: Path | None) -> Settings:
    return settings_module.load({"data_dir": data_dir}, config)


def _check_removable(settings: Settings, name: str) -> None:
    from corral.registry.scan import scan

    catalog = scan(settings)
    if name in catalog.aliases:
        raise Conflict(
            f"`{name}` is an alias of `{catalog.aliases[name]}`; aliases made here go with: corral "
            f"models alias {name} --rm",
            param="name",
        )
    model = catalog.models.get(name)
    if model is not None and model.source == "bundled":
        raise Conflict(f"`{name}` comes with Corral and cannot be removed", param="name")
    if model is not None:
        raise Conflict(f"`{name}` is the file {model.path}: delete that file", param="name")


def _explain_unverifiable(settings: Settings, name: str) -> None:
    from corral.registry.scan import scan

    model = scan(settings).find(name)
    raise BadRequest(
        f"no sha256 is recorded for `{model.name}` ({model.path}); its header is sound. To have "
        f"one: corral models add {model.path} --name OTHER-NAME",
        param="name",
    )


def _print_verified(findings: "list[Finding]", models: int, total: int, as_json: bool) -> None:
    if as_json:
        wrong = [{"name": f.name, "path": str(f.path), "message": f.message} for f in findings]
        print(json.dumps({"models": models, "bytes": total, "findings": wrong}, indent=2))
        return
    for finding in findings:
        print(f"{finding.name}: {finding.message}")
    print(f"{models} models, {_size(total)}: {len(findings) or 'nothing'} wrong", file=sys.stderr)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
