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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import importance
import stage
from corral.errors import BadRequest, Conflict, CorralError, DiskFullError, InvalidModel, ToolError
from corral.registry import manifest as manifests
from corral.registry.catalog import NAME
from corral.registry.disk import hash_of, put_in_place
from corral.registry.gguf_header import read_header
from corral.registry.manifest import BaseOf, Manifest, ManifestFile
from corral.registry.quant_types import QUANTIZE, UNQUANTISED, QuantType, quant_types
from llama_tools import LlamaTools, make_room, printed
from quant_coverage import Coverage, check_name, coverage, parts

AUTO, NONE = "auto", "none"
QUANT_SIZE = re.compile(r"quant size *= *([\d.]+) MiB")
TENSOR = re.compile(r"^\[ *(\d+)/ *(\d+)\]", re.M)
COMMIT = re.compile(r"commit ([0-9a-f]{7,40})")
MIB = 1024 * 1024
IMATRIX_CTX = 512


@dataclass(frozen=True)
class Options:
    """What decides the result; kept in the manifest."""

    pure: bool
    tensor_type: tuple[str, ...]
    output_tensor_type: str
    token_embedding_type: str
    leave_output_tensor: bool
    allow_requantize: bool

    def flags(self) -> list[str]:
        """As llama-quantize takes them."""
        flags = [f"--{name.replace('_', '-')}" for name, on in asdict(self).items() if on is True]
        for pattern in self.tensor_type:
            flags += ["--tensor-type", pattern]
        for name in ("output_tensor_type", "token_embedding_type"):
            if getattr(self, name):
                flags += [f"--{name.replace('_', '-')}", getattr(self, name)]
        return flags


@dataclass(frozen=True)
class Job:
    """One model, where its files go, and under which names."""

    tools: LlamaTools
    model: Path
    name: str
    out: Path
    options: Options
    threads: int | None
    replace: bool
    about: dict[str, Any]

    def target(self, kind: QuantType) -> Path:
        return self.out / f"{self.name}-{kind.name}.gguf"

    @property
    def imatrix(self) -> Path:
        return self.out / f"{self.name}.imatrix.gguf"

    def command(self, kind: QuantType, imatrix: Path | None, out: Path | None) -> list[str]:
        """llama-quantize's line; without `out` its own --dry-run, which tells the size."""
        flags = self.options.flags()
        if imatrix is not None and kind.uses_imatrix:
            flags += ["--imatrix", str(imatrix)]
        where = [str(self.model), str(out)] if out else ["--dry-run", str(self.model)]
        count = [str(self.threads)] if self.threads else []
        return self.tools.argv(QUANTIZE, *flags, *where, kind.name, *count)


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


def record(
    job: Job,
    kind: QuantType,
    imatrix: Path | None,
    found: Coverage,
    sums: tuple[str, str],
    said: str,
) -> None:
    """Write the manifest beside the file."""
    target, used = job.target(kind), imatrix if kind.uses_imatrix else None
    base_sha, digest = sums
    files = [ManifestFile(name=target.name, sha256=digest, bytes=target.stat().st_size)]
    if used is not None and used.parent == job.out:
        size = used.stat().st_size
        files.append(ManifestFile(name=used.name, role="imatrix", sha256=hash_of(used), bytes=size))
    commit = COMMIT.search(said)
    made = Manifest(
        name=target.stem,
        files=tuple(files),
        base=BaseOf(name=job.name, sha256=base_sha),
        llama_cpp_commit=commit[1] if commit else "",
        settings={
            "quantize": {"type": kind.name, **asdict(job.options)},
            "imatrix": {"file": used.name, "sha256": hash_of(used)} if used else None,
        },
        metrics={"quantize": found.as_json()},
        **{"source": {"made_by": "quantize"}, **job.about},
    )
    manifests.write(made, job.out)


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
