"""A verb that is a job: run here and now, or by a running Corral, or only shown."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral import settings as settings_module
from corral.errors import ToolError

if TYPE_CHECKING:
    from corral.jobs.kinds import Kind


def absolute(remote: bool, **paths: Path | None) -> dict[str, str]:
    """Paths for a spec: whole ones for this machine, as typed for another."""
    return {key: str(path if remote else path.absolute()) for key, path in paths.items() if path}


def run_kind(
    kind: "Kind",
    given: dict[str, Any],
    *,
    corral: str = "",
    data_dir: Path | None = None,
    config: Path | None = None,
) -> dict[str, Any]:
    """Run a job here, or by the Corral at `corral`; its result, `{"registered": …, "result": …}`."""
    spec = kind.parse(given)
    if corral:
        from corral.cli.follow import follow

        return follow(corral, kind.name, given, data_dir=data_dir, config=config)
    from corral.jobs.runner import run_now

    return run_now(kind, spec, settings_module.load({"data_dir": data_dir}, config))


def show_commands(
    kind: "Kind", given: dict[str, Any], data_dir: Path | None, config: Path | None
) -> None:
    """Print the commands that the job's stages would run."""
    spec, settings = kind.parse(given), settings_module.load({"data_dir": data_dir}, config)
    with tempfile.TemporaryDirectory() as folder:
        for stage in kind.plan(spec, settings, Path(folder)):
            _print_commands([*stage.argv, "--dry-run"])


def _print_commands(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(done.stderr.strip().removeprefix("error: "))
    sys.stdout.write(done.stdout)
