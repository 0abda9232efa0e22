"""Hand a model to a desktop app: merge its adapter, quantise where asked, put the file where the app looks.

    python scripts/export_model.py --model models/corral-tiny.gguf --lora models/corral-tiny-folio.gguf \\
      --name corral-tiny-folio --to ollama --dest build/export

DEST is the app's models folder for gpt4all and lmstudio, and for ollama and folder the one in which a folder NAME is made, with a
Modelfile and a README beside the GGUF. A merged model must answer as base and adapter did, to --prompts or to four of its own,
or nothing is exported (exit status 3). Files that are there are replaced with --force only, each whole or not at all.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import merge_check
import ollama_app
import stage
from corral.errors import BadRequest, Conflict, InvalidModel, ToolError
from corral.registry.apps import TARGETS, check_architecture
from corral.registry.catalog import SHARD, tame
from corral.registry.disk import hash_of, put_in_place
from corral.registry.fit import Shape
from corral.registry.fit_subject import UNQUANTISED, file_type, shard_paths
from corral.registry.gguf_header import Header, read_header
from corral.registry.quant_types import quant_types
from evaluation.rows import read_rows
from export_readme import readme
from llama_tools import LlamaTools, make_room
from ollama_modelfile import Template, modelfile

CHUNK = 4 * 1024 * 1024
# general.file_type of what llama-export-lora writes: F32 stays, all else becomes F16.
FILE_TYPES = {"F32": 0, "F16": 1}
PAIR = 2  # tensors of an adapter for each one it changes


@dataclass(frozen=True)
class Export:
    """What is asked for, checked. `type` is that of the exported file."""

    tools: LlamaTools
    args: argparse.Namespace
    header: Header
    source_type: str
    type: str

    @property
    def name(self) -> str:
        """A name that every app takes: no colons, no slashes."""
        return tame(str(self.args.name))

    @property
    def file(self) -> str:
        """The exported GGUF's name, the type at its end."""
        ends = self.name.upper().endswith(f"-{self.type}")
        return f"{self.name}.gguf" if ends else f"{self.name}-{self.type}.gguf"

    @property
    def folder(self) -> Path:
        """Where it goes."""
        dest: Path = self.args.dest
        if self.args.to == "gpt4all":
            return dest
        if self.args.to == "lmstudio":
            return dest / tame(self.args.publisher) / self.name
        return dest / self.name

    @property
    def with_papers(self) -> bool:
        """Whether a Modelfile and a README go with it."""
        return self.args.to in ("ollama", "folder")

    @property
    def adapter(self) -> str:
        """The adapter's file name where it is not merged."""
        return f"{self.name}-adapter.gguf" if self.args.lora and self.args.no_merge else ""

    def threads(self, *flag: str) -> list[str]:
        """The end of a command line: how many threads, where that was said."""
        return [*flag, str(self.args.threads)] if self.args.threads else []


def checked(args: argparse.Namespace) -> Export:
    """Refuse what cannot work before anything is written."""
    tools = LlamaTools(args.bin, log=args.events is not None)
    headers = [read_header(path, details=True) for path in shard_paths(args.model)]
    check_architecture(args.to, headers[0].architecture)
    if headers[0].is_adapter:
        raise BadRequest(
            f"{args.model} is an adapter: give its base, and it as --lora", param="model"
        )
    if args.no_merge and args.to not in ("ollama", "folder"):
        raise BadRequest(f"{args.to} loads no adapters: leave out --no-merge", param="no_merge")
    if args.no_merge and args.quantize:
        raise BadRequest(
            "--no-merge keeps the base as it is: leave out --quantize", param="quantize"
        )
    source = file_type(Shape(headers))
    return Export(tools, args, headers[0], source, final_type(tools, args, source))


def final_type(tools: LlamaTools, args: argparse.Namespace, source: str) -> str:
    if args.quantize:
        if source not in UNQUANTISED:
            raise BadRequest(
                f"{args.model} is {source} already; quantise from F16 or F32, or leave out --quantize",
                param="quantize",
            )
        return quant_types(tools.folder).find(args.quantize).name
    merged = args.lora and not args.no_merge
    return "F16" if merged and source != "F32" else source


def check_free(export: Export) -> None:
    """Raise Conflict for the first file that is there, unless --force."""
    names = [export.file, *([export.adapter] if export.adapter else [])]
    names += ["Modelfile", "README.md"] if export.with_papers else []
    for path in (export.folder / name for name in names):
        if path.exists() and not export.args.force:
            raise Conflict(
                f"{path} is there already; --force replaces it, --name or --dest take another place",
                param="force",
            )


def joined(export: Export, work: Path) -> Path:
    """The base as one file: llama-export-lora and most apps take no shards."""
    model: Path = export.args.model
    if SHARD.match(model.stem) is None:
        return model
    out = work / "joined.gguf"
    export.tools.run(export.tools.argv("llama-gguf-split", "--merge", model, out))
    return out


def merged(export: Export, base: Path, work: Path) -> Path:
    """Base and adapter in one; ToolError when the adapter did not change what it has weights for."""
    lora: Path = export.args.lora
    adapter = read_header(lora)
    if not adapter.is_adapter:
        raise InvalidModel(f"{lora} is a whole model, not an adapter", param=str(lora))
    if adapter.architecture != export.header.architecture:
        raise BadRequest(
            f"{lora} is for `{adapter.architecture}`, {export.args.model} is "
            f"`{export.header.architecture}`: give the adapter's own base",
            param="lora",
        )
    out = work / "merged.gguf"
    argv = export.tools.argv("llama-export-lora", "-m", base, "--lora", lora, "-o", out)
    said = export.tools.run([*argv, *export.threads("--threads")])
    expected = adapter.tensor_count // PAIR
    if f"merged {expected} tensors" not in said:
        raise ToolError(
            f"the adapter {lora} has weights for {expected} tensors, and not all are in "
            f"{export.args.model}: give the adapter's own base"
        )
    return out


def same_answers(export: Export, base: Path, merged: Path) -> dict[str, int]:
    """Ask base + adapter and the merged model; GateError when they differ."""
    file: Path | None = export.args.prompts
    prompts = (
        [row["messages"][:-1] for row in read_rows(file, None)] if file else merge_check.PROMPTS
    )
    threads: int | None = export.args.threads
    before = merge_check.answers(export.tools, base, export.args.lora, prompts, threads)
    after = merge_check.answers(export.tools, merged, None, prompts, threads)
    return merge_check.compare(before, after)


def finished(export: Export, source: Path, work: Path, reporter: stage.Reporter) -> Path:
    """`source` in the type asked for, and under its own name in the metadata."""
    if source == export.args.model and not export.args.quantize:
        return source
    out = work / "finished.gguf"
    argv = export.tools.argv("llama-quantize", "--override-kv", f"general.name=str:{export.name}")
    if not export.args.quantize:
        number = FILE_TYPES.get(export.type)
        argv += ["--override-kv", f"general.file_type=int:{number}"] if number is not None else []
    argv += [str(source), str(out), export.args.quantize or "COPY", *export.threads()]
    reporter.message(f"writing {export.file}")
    export.tools.run(argv)
    return out


def place(source: Path, target: Path, reporter: stage.Reporter) -> None:
    """Copy into the app's folder, whole or not at all; a hidden name until it is."""
    size = source.stat().st_size
    make_room(target.parent, size, target.name)
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as reader, part.open("wb") as writer:
            while chunk := reader.read(CHUNK):
                writer.write(chunk)
                reporter.progress(writer.tell(), size, "bytes", target.name)
        put_in_place(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_papers(export: Export, sha256: str, reporter: stage.Reporter) -> Template | None:
    """The Modelfile and the README; the template that went into the first."""
    args = export.args
    template = ollama_app.template_of(export.header, args.model, args.template, export.tools)
    if template is None:
        reporter.message(
            "no Go template is kept for this model's chat template: Ollama takes the nearest it "
            "knows; give one with --template FILE",
            "warning",
        )
    text = modelfile(
        export.file, template, json.loads(args.defaults),
        context=export.header.context_length, adapter=export.adapter, licence=args.licence,
    )  # fmt: skip
    about = readme(export.name, export.file, sha256, export.header, args, export.adapter)
    for name, content in (("Modelfile", text), ("README.md", about)):
        part = export.folder / f".{name}.part"
        part.write_text(content, encoding="utf-8")
        put_in_place(part, export.folder / name)
    return template


def main(args: argparse.Namespace, reporter: stage.Reporter) -> None:
    export = checked(args)
    check_free(export)
    result: dict[str, Any] = {"name": export.name, "to": args.to, "type": export.type}
    with tempfile.TemporaryDirectory(prefix="corral-export-") as folder:
        work = Path(folder)
        source = base = joined(export, work)
        if args.lora and not args.no_merge:
            reporter.message("merging the adapter")
            source = merged(export, base, work)
            reporter.message("asking base with adapter, then the merged model")
            result["merge_check"] = same_answers(export, base, source)
        ready = finished(export, source, work, reporter)
        target = export.folder / export.file
        place(ready, target, reporter)
    if export.adapter:
        place(args.lora, export.folder / export.adapter, reporter)
    result |= {"path": str(target), "bytes": target.stat().st_size, "sha256": hash_of(target)}
    if export.with_papers:
        template = write_papers(export, result["sha256"], reporter)
        result["template"] = template.name if template else None
    if args.to == "ollama":
        result["ollama"] = ollama_app.create(export.name, export.folder, reporter)
    reporter.result(result)


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="base model, GGUF; of shards, the first")
    add("--lora", type=Path, help="adapter to merge into it, GGUF")
    add("--name", required=True, help="what it is to be called")
    add("--to", required=True, choices=TARGETS, help="for whom")
    add("--dest", type=Path, required=True, help="folder: see above")
    add("--quantize", default="", metavar="TYPE", help="type of llama-quantize, such as Q4_K_M")
    add("--no-merge", action="store_true", help="ship base and adapter apart (ollama, folder)")
    add("--prompts", type=Path, help="chat JSONL to check the merged model with")
    add("--threads", type=int, help="threads (default: llama.cpp's)")
    add("--publisher", default="corral", help="first folder under LM Studio's (default corral)")
    add("--template", type=Path, help="Go template for Ollama, instead of the one kept here")
    add("--defaults", default="{}", help="sampling defaults as JSON: temperature, top_p …")
    add("--description", default="", help="for the README")
    add("--licence", default="", help="for the README and the Modelfile")
    add("--force", action="store_true", help="replace files that are there")
    add("--bin", type=Path, help="folder of llama.cpp's programs (default: the build's)")
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
