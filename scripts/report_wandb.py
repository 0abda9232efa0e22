"""Show a training's step metrics in Weights & Biases.

    python scripts/report_wandb.py --metrics build/my/adapter.work/metrics.csv --folder build/wandb --project folio --id ftjob-1

With a key for Weights & Biases (`WANDB_API_KEY`, or `wandb login`) and a network the run is sent; else it is written
to FOLDER, and `wandb sync` sends it later. Never fails for want of a network. Needs the package wandb.
"""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import stage
from corral.errors import ToolError
from step_metrics import read

INIT_SECONDS = 30


def rows_of(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Step and figures of every step."""
    return [
        (int(row["step"]), {name: float(value) for name, value in row.items() if value})
        for row in read(path)
    ]


def has_key(wandb: Any) -> bool:
    """Whether there are credentials, without asking anybody for them."""
    try:
        return bool(wandb.login(prompt=False))
    except wandb.errors.Error:
        return False


def start(wandb: Any, args: argparse.Namespace, mode: str) -> Any:
    """The run; the same id goes on with the same run."""
    return wandb.init(
        project=args.project, entity=args.entity, name=args.name or args.id, id=args.id,
        tags=args.tag, config=json.loads(args.config), dir=str(args.folder), mode=mode, resume="allow",
        settings=wandb.Settings(init_timeout=INIT_SECONDS, silent=True),
    )  # fmt: skip


def main(args: argparse.Namespace, tell: stage.Reporter) -> None:
    try:
        wandb: Any = import_module("wandb")
    except ImportError as error:
        raise ToolError(f"the package wandb cannot be used: {error}; pip install wandb") from error
    args.folder.mkdir(parents=True, exist_ok=True)
    mode = "online" if has_key(wandb) else "offline"
    try:
        run = start(wandb, args, mode)
    except wandb.errors.Error as error:
        tell.message(f"Weights & Biases cannot be reached ({error}); the run stays here", "warning")
        mode, run = "offline", start(wandb, args, "offline")
    rows = rows_of(args.metrics)
    for step, figures in rows:
        run.log(figures, step=step)
    run.finish()
    where = f"`wandb sync {Path(run.dir).parent}` sends it" if mode == "offline" else run.url
    tell.message(f"{len(rows)} steps are in the Weights & Biases run {args.id} ({mode}): {where}")
    tell.result({"run": args.id, "mode": mode, "steps": len(rows)})


if __name__ == "__main__":
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--metrics", type=Path, required=True, help="metrics.csv of the training")
    add("--folder", type=Path, required=True, help="where a run is kept that cannot be sent")
    add("--project", required=True)
    add("--entity")
    add("--name", help="shown name (default: the id)")
    add("--id", required=True, help="the run's id")
    add("--tag", action="append", default=[])
    add("--config", default="{}", help="hyperparameters, JSON")
    stage.run(main, parser.parse_args())
