"""Quantise a GGUF model: importance matrix, llama-quantize for each type, a check of what it wrote.

    python scripts/quantize_gguf.py --model models/corral-tiny.gguf --out build/q Q8_0 Q4_K_M IQ4_XS

Writes OUT/NAME-TYPE.gguf and its manifest for each type; a file appears under that name whole or
not at all. The importance matrix comes from --calibration (default: scripts/calibration.txt) unless
--imatrix gives one or `--imatrix none` wants none; it is kept as OUT/NAME.imatrix.gguf. A file of
which the named type covers under half the weights is refused (exit status 3). `--dry-run` prints
the llama.cpp commands. Measure what is lost with measure_gguf.py.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import importance
import stage
from corral.errors import BadRequest, Conflict, CorralError, DiskFullError, InvalidModel, ToolError
from corral.registry.catalog import NAME
from corral.registry.disk import hash_of, put_in_place
from corral.registry.gguf_header import read_header
from corral.registry.quant_types import QUANTIZE, UNQUANTISED, QuantType, quant_types
from llama_tools import LlamaTools, make_room, printed
from quant_coverage import check_name, coverage, parts
from quantize_job import Job, Options, record

AUTO, NONE = "auto", "none"
QUANT_SIZE = re.compile(r"quant size *= *([\d.]+) MiB")
TENSOR = re.compile(r"^\[ *(\d+)/ *(\d+)\]", re.M)
MIB = 1024 * 1024
IMATRIX_CTX = 512


def check_source(job: Job) -> str:
    """The source's sha256; its header is checked, and that it is a model that may be quantised."""
    if not NAME.match(job.name):
        raise BadRequest(
            f"`{job.name}` is no model name: letters, digits, `.`, `_`, `-`, up to 200",
            param="name",
        )
    header = read_header(job.model)
    if header.is_adapter or header.metadata.get("general.type") == "imatrix":
        raise InvalidModel(
            f"{job.model} is no whole model, so it cannot be quantised; give the base model",
            param=str(job.model),
        )
    missing = [part for part in parts(job.model) if not part.is_file()]
    if missing:
        raise InvalidModel(f"{job.model}: the shard {missing[0].name} is missing", param="model")
    return hash_of(job.model)


def check_free(path: Path, replace: bool) -> None:
    """Conflict when the file is there and may not be replaced."""
    if path.exists() and not replace:
        raise Conflict(f"{path} exists already; give --replace or another --out", param=str(path))


def make_imatrix(job: Job, text: Path, ctx: int, reporter: stage.Reporter) -> Path:
    """Run llama-imatrix; the file appears whole or not at all."""
    if job.imatrix.exists() and not job.replace:
        raise Conflict(
            f"{job.imatrix} exists already; use it with --imatrix {job.imatrix}, or give --replace",
            param="imatrix",
        )
    job.out.mkdir(parents=True, exist_ok=True)
    part = job.imatrix.with_suffix(".part")
    argv = importance.command(job.tools, job.model, text, part, ctx, job.threads)

    def tell(done: int, total: int) -> None:
        reporter.progress(done, total, "chunks", "importance matrix")

    try:
        importance.make(job.tools, argv, tell)
        importance.check(part, job.model)
        put_in_place(part, job.imatrix)
    finally:
        part.unlink(missing_ok=True)
    return job.imatrix


def expected_bytes(job: Job, kind: QuantType, imatrix: Path | None) -> int:
    """How long the file will be, by llama-quantize's own estimate; ToolError says why it cannot be."""
    found = QUANT_SIZE.search(job.tools.run(job.command(kind, imatrix, None)))
    if found is None:
        raise ToolError(f"{QUANTIZE} --dry-run printed no size for {job.model}")
    headers = sum(read_header(part).data_start for part in parts(job.model))
    # It prints two decimals of a MiB.
    return int((float(found[1]) + 0.01) * MIB) + headers


def quantize(
    job: Job, kind: QuantType, imatrix: Path | None, base_sha: str, reporter: stage.Reporter
) -> dict[str, Any]:
    """Make one type: file, check, manifest. What the result says of it."""
    target = job.target(kind)
    check_free(target, job.replace)
    if imatrix is None and kind.needs_imatrix:
        raise BadRequest(
            f"{kind.name} cannot be made without an importance matrix; leave out `--imatrix none`",
            param="imatrix",
        )
    needed = expected_bytes(job, kind, imatrix)
    make_room(job.out, needed, f"{job.name}-{kind.name}")
    part = target.with_suffix(".part")
    try:
        said = run(job, job.command(kind, imatrix, part), kind, reporter)
        found = coverage(part, kind, job.options.tensor_type)
        check_name(found, target.name)
        digest = hash_of(part)
        put_in_place(part, target)
    except ToolError as error:
        raise full_or(error, job.out, needed, kind) from None
    finally:
        part.unlink(missing_ok=True)
    record(job, kind, imatrix, found, (base_sha, digest), said)
    size = target.stat().st_size
    return {"type": kind.name, "name": target.stem, "path": str(target), "sha256": digest} | {
        "bytes": size,
        **found.as_json(),
    }


def run(job: Job, argv: list[str], kind: QuantType, reporter: stage.Reporter) -> str:
    def follow(text: str) -> None:
        lines = TENSOR.findall(text)
        if lines:
            done, total = map(int, lines[-1])
            reporter.progress(done, total, "tensors", kind.name)

    return job.tools.run(argv, follow)


def full_or(error: ToolError, folder: Path, needed: int, kind: QuantType) -> CorralError:
    """A DiskFullError when the disk has filled up meanwhile, else the error as it is."""
    try:
        make_room(folder, needed, f"the disk filled up while {kind.name} was written: it")
    except DiskFullError as full:
        return full
    return error


def chosen_imatrix(
    job: Job, args: argparse.Namespace, kinds: list[QuantType], reporter: stage.Reporter
) -> Path | None:
    """The importance matrix to use: the one given, a new one, or none."""
    if args.imatrix == NONE or not any(kind.uses_imatrix for kind in kinds):
        return None
    if args.imatrix != AUTO:
        importance.check(Path(args.imatrix), job.model)
        return Path(args.imatrix)
    return make_imatrix(job, args.calibration, args.ctx, reporter)


def main(args: argparse.Namespace, reporter: stage.Reporter) -> None:
    tools = LlamaTools(args.bin, log=args.events is not None)
    types = quant_types(tools.folder)
    kinds = list({kind.name: kind for kind in map(types.find, args.type)}.values())
    options = Options(
        args.pure, tuple(args.tensor_type), args.output_tensor_type, args.token_embedding_type,
        args.leave_output_tensor, args.allow_requantize,
    )  # fmt: skip
    name = args.name or args.model.stem
    about = json.loads(args.about)
    job = Job(tools, args.model, name, args.out, options, args.threads, args.replace, about)
    if args.dry_run:
        show(job, args, kinds)
        return
    base_sha = check_source(job)
    for kind in kinds:
        check_free(job.target(kind), job.replace)
    imatrix = chosen_imatrix(job, args, kinds, reporter)
    if args.only_imatrix:
        reporter.result({"imatrix": str(imatrix or "")})
        return
    made = [quantize(job, kind, imatrix, base_sha, reporter) for kind in kinds]
    reporter.result({"model": str(job.model), "imatrix": str(imatrix or ""), "types": made})


def show(job: Job, args: argparse.Namespace, kinds: list[QuantType]) -> None:
    """Print the llama.cpp commands; nothing runs."""
    used = args.imatrix != NONE and any(kind.uses_imatrix for kind in kinds)
    imatrix = None if not used else job.imatrix if args.imatrix == AUTO else Path(args.imatrix)
    if used and args.imatrix == AUTO:
        text = args.calibration
        line = importance.command(job.tools, job.model, text, job.imatrix, args.ctx, job.threads)
        print(printed(line))
    for kind in () if args.only_imatrix else kinds:
        print(printed(job.command(kind, imatrix, job.target(kind))))


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("type", nargs="+", help="types of llama-quantize: Q8_0, Q4_K_M, …")
    add("--model", type=Path, required=True, help="the model, GGUF; of shards, the first")
    add("--name", help="its name; the files are called NAME-TYPE (default: the file's)")
    add("--out", type=Path, required=True, help="folder for the files")
    add("--bin", type=Path, help="folder of llama.cpp's programs (default: the build's)")
    add("--imatrix", default=AUTO, help="importance matrix; auto (default) makes one, none")
    add("--calibration", type=Path, default=importance.CALIBRATION, help="text to make it from")
    add("--ctx", type=int, default=IMATRIX_CTX, help="its context in tokens (default 512)")
    add("--only-imatrix", action="store_true", help="stop after the importance matrix")
    add("--pure", action="store_true", help="every tensor in the named type: no mixture")
    add("--tensor-type", action="append", default=[], metavar="PATTERN=TYPE", help="one tensor's")
    add("--output-tensor-type", default="", help="type of output.weight")
    add("--token-embedding-type", default="", help="type of the token embeddings")
    add("--leave-output-tensor", action="store_true", help="output.weight as it is")
    add("--allow-requantize", action="store_true", help=f"from other than {UNQUANTISED}; worse")
    add("--threads", type=int, help="threads (default: llama.cpp's)")
    add("--replace", action="store_true", help="write over files that are there")
    add("--about", default="{}", help="JSON for the manifest: description, licence, defaults")
    add("--dry-run", action="store_true", help="print the llama.cpp commands only")
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
