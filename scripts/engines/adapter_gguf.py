"""A PEFT adapter folder as GGUF, by llama.cpp's own converter."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from gguf import GGUFReader, GGUFWriter

import safe_files
from corral.errors import DiskFullError, ToolError
from corral.registry.disk import sync_file, sync_folder
from corral.registry.lora_header import ALPHA
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


def to_gguf(adapter: Path, config: Path, out: Path, source: Path, *, name: str, base: str) -> None:
    """Convert `adapter` (PEFT folder) over the base called `base`, whose config.json is in the folder `config`."""
    raw, part = (out.with_name(f"{out.name}.{word}") for word in ("raw.part", "part"))
    try:
        convert(adapter, config, raw, source)
        with safe_files.room(out):
            _write_named(part, raw, name, base)
            part.replace(out)
            sync_folder(out.parent)
    finally:
        raw.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def convert(adapter: Path, config: Path, out: Path, source: Path, outtype: str = "f16") -> None:
    """Run llama.cpp's converter."""
    command = [sys.executable, str(source / CONVERTER), str(adapter), "--base", str(config)]
    command += ["--outfile", str(out), "--outtype", outtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and out.is_file():
        return
    if "No space left" in done.stderr:
        free = shutil.disk_usage(out.parent).free
        raise DiskFullError(f"no space left while writing {out} ({free:,} bytes free there)")
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no output")
    raise ToolError(f"{CONVERTER} failed: {last}")


def _write_named(out: Path, made: Path, name: str, base: str) -> None:
    """The converter's adapter under a name: of its own it has the folder's, `Ckpt Step 16`, and takes a version from that."""
    reader = GGUFReader(made)
    writer = GGUFWriter(out, reader.fields["general.architecture"].contents())
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base)
    writer.add_string("adapter.type", "lora")
    writer.add_float32(ALPHA, reader.fields[ALPHA].contents())
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    sync_file(out)


def write_config(config: dict[str, object], architecture: str, folder: Path) -> None:
    """The base's config.json as the converter wants it: transformers' note that the weights came from
    a GGUF would be taken for a quantisation."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in config.items() if name != "quantization_config"}
    text = json.dumps(kept | {"architectures": [architecture]}, indent=1, default=str)
    safe_files.write(folder / "config.json", text.encode())
