"""Write a recipe's folder: rows, configuration, and a page that says what to type."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import yaml

from corral.datasets.convert import Options, convert
from corral.datasets.findings import Findings
from corral.errors import BadRequest, Conflict, InvalidData
from corral.finetune.recipes import axolotl, deepspeed, llama_factory, unsloth
from corral.finetune.recipes.job import Job, job_of
from corral.finetune.schemas import CreateJob
from corral.registry.disk import make_folder, write_whole

Tool = Literal["axolotl", "unsloth", "llama-factory"]
TOOLS: dict[str, Any] = {
    "axolotl": axolotl,
    "unsloth": unsloth,
    "llama-factory": llama_factory,
}
ROWS, VALID = "train.jsonl", "valid.jsonl"
# A repository of the hub, or a folder; it becomes text in a script and in YAML.
BASE = re.compile(r"[\w./~-][\w./ ~-]{0,499}\Z")


def write(
    to: Tool,
    request: CreateJob,
    base: str,
    file: Path,
    valid: Path | None,
    out: Path,
    findings: Findings,
) -> list[Path]:
    """Make `out` with the job for `to`; the files written. What the tool's format cannot hold of the rows
    is in `findings`; InvalidData for a row that cannot be used, Conflict when `out` is there."""
    if not BASE.match(base):
        raise BadRequest(f"{base!r} is no repository of the hub, and no folder", param="base")
    if out.exists():
        raise Conflict(f"{out} is there already; name another folder", param="out")
    make_folder(out)
    try:
        return _filled(to, request, base, file, valid, out, findings)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _filled(
    to: Tool,
    request: CreateJob,
    base: str,
    file: Path,
    valid: Path | None,
    out: Path,
    findings: Findings,
) -> list[Path]:
    tool = TOOLS[to]
    count = _rows(file, out / ROWS, tool.FORMAT, findings)
    if valid is not None:
        _rows(valid, out / VALID, tool.FORMAT, findings)
    job = job_of(request, base, count, ROWS, VALID if valid is not None else None)
    texts = _texts(to, job, out) | {"README.md": _readme(to, job, request.model)}
    for name, text in texts.items():
        write_whole(out / name, text.encode())
    return [out / name for name in (ROWS, *([VALID] if valid is not None else ()), *texts)]


def _rows(source: Path, target: Path, to: str, findings: Findings) -> int:
    (result,) = convert(source, target, Options(to=to, check=True), findings)
    if findings.count("error"):
        raise InvalidData(f"{findings.first(1)[0]}", param=str(source))
    return result.written


def _texts(to: Tool, job: Job, out: Path) -> dict[str, str]:
    columns = {name: _columns(out / name) for name in (job.rows, job.valid) if name}
    if to == "unsloth":
        return {"train.py": unsloth.script(job, prompts="prompt" in columns[job.rows])}
    found = {deepspeed.FILE: _json(deepspeed.CONFIG)}
    if to == "axolotl":
        return found | {"config.yaml": _yaml(axolotl.config(job))}
    return found | {
        "config.yaml": _yaml(llama_factory.config(job)),
        "dataset_info.json": _json(llama_factory.dataset_info(job, columns)),
    }


def _columns(rows: Path) -> set[str]:
    """The keys that any row has."""
    found: set[str] = set()
    with rows.open(encoding="utf-8") as file:
        for line in file:
            found |= json.loads(line).keys()
    return found


def _readme(to: Tool, job: Job, model: str) -> str:
    fill_in = (
        f"\nFirst put the base's template in place of `{llama_factory.TEMPLATE}` in config.yaml "
        "(its names are in LLaMA-Factory's list of supported models).\n"
        if to == "llama-factory"
        else ""
    )
    return f"""# Fine-tuning {job.base} with {to}
{fill_in}
```
{TOOLS[to].RUN}
```

leaves a PEFT adapter in `adapter/`. To serve it over `{model}`, make a GGUF of it with llama.cpp's converter, and add it:

```
python llama.cpp/convert_lora_to_gguf.py --base {job.base} --outfile adapter.gguf adapter
corral models add adapter.gguf --base {model}
```

{to} renders and tokenises with the Hugging Face tokenizer of the base, not with the GGUF that serves; what both make of a row may
differ. `corral evaluate` on held-out rows shows whether it does.
"""


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
