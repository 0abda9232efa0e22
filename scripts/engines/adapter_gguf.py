"""A PEFT adapter folder as GGUF, by llama.cpp's own converter."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import safe_files
from corral.errors import DiskFullError, ToolError
from corral.registry.disk import sync_folder
from corral.settings import clone_root

CONVERTER = "convert_lora_to_gguf.py"


def source_tree(given: Path | None) -> Path:
    """llama.cpp's source: as given, else the submodule, else what the build fetched."""
    root = clone_root() or Path.cwd()
    fetched = sorted((root / "build" / "src").glob("llama.cpp-*"))
    places = [given] if given else [root / "llama.cpp", *fetched]
    for place in places:
        if (place / CONVERTER).is_file():
            return place
    raise ToolError(
        f"{CONVERTER} is not in {', '.join(map(str, places))}; give llama.cpp's source tree with --llama-source, "
        "or fetch it with make build"
    )


def to_gguf(adapter: Path, config: Path, out: Path, source: Path) -> None:
    """Convert `adapter` (PEFT folder) over the base whose config.json is in the folder `config`."""
    part = out.with_name(out.name + ".part")
    command = [sys.executable, str(source / CONVERTER), str(adapter), "--base", str(config)]
    command += ["--outfile", str(part), "--outtype", "f16"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not part.is_file():
        part.unlink(missing_ok=True)
        last = next(
            (line for line in reversed(done.stderr.splitlines()) if line.strip()), "no output"
        )
        if "No space left" in done.stderr:
            free = shutil.disk_usage(out.parent).free
            raise DiskFullError(f"no space left while writing {out} ({free:,} bytes free there)")
        raise ToolError(f"{CONVERTER} failed: {last}")
    with safe_files.room(out):
        part.replace(out)
        sync_folder(out.parent)


def write_config(config: dict[str, object], architecture: str, folder: Path) -> None:
    """The base's config.json as the converter wants it: transformers' note that the weights came from
    a GGUF would be taken for a quantisation."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in config.items() if name != "quantization_config"}
    text = json.dumps(kept | {"architectures": [architecture]}, indent=1, default=str)
    safe_files.write(folder / "config.json", text.encode())
