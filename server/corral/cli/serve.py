"""`corral serve`: check, then run the gateway and llama-server until Ctrl-C."""

import json
from pathlib import Path
from typing import Annotated

import typer

from corral import settings as settings_module
from corral.errors import SettingsError
from corral.settings import Settings

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one.")]
DataDir = Annotated[Path | None, typer.Option(help="Data directory (models, logs).")]
Config = Annotated[Path | None, typer.Option(help="Settings file; see corral.example.toml.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]
DryRun = Annotated[bool, typer.Option(help="Print the llama-server command and presets, exit.")]
ShowConfig = Annotated[bool, typer.Option(help="Print the settings in force as JSON, exit.")]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: Config = None,
    log_level: LogLevel = None,
    dry_run: DryRun = False,
    show_config: ShowConfig = False,
) -> None:
    """Serve every model behind OpenAI's API, in the foreground."""
    flags = {"host": host, "port": port, "data_dir": data_dir, "log_level": log_level}
    settings = settings_module.load(flags, config)
    if show_config:
        print(json.dumps(settings.redacted(), indent=2))
    elif dry_run:
        _print_plan(settings)
    else:
        _serve(settings)


def _serve(settings: Settings) -> None:
    from corral import preflight
    from corral.registry.scan import scan

    if settings.role == "worker":
        raise SettingsError(
            "setting `role` is `worker`: this machine runs jobs only. Start `corral worker`, or set "
            "CORRAL_ROLE to `all` or `gateway`",
            param="role",
        )
    catalog = scan(settings)
    preflight.check(settings, catalog)
    with preflight.bind(settings) as listener:
        # FastAPI and uvicorn take most of a second: only once nothing stands in the way.
        from corral.server import run

        run(settings, catalog, listener)


def _print_plan(settings: Settings) -> None:
    import shlex

    from corral.registry.scan import scan
    from corral.runtime.command import router_argv
    from corral.runtime.presets import lay_out

    presets = settings.data_dir / "run" / "presets.ini"
    print(shlex.join(router_argv(settings, presets, port=0)))
    print(f"\n# {presets}")
    print(lay_out(scan(settings), settings).ini(), end="")
