"""Measure quantised GGUFs against the unquantised one: size, perplexity, KL divergence, speed, score.

    python scripts/measure_gguf.py --base models/corral-tiny.gguf --html build/q/page.html build/q/*-Q*.gguf

The text is scripts/evaluation.jsonl (generated rows), rendered by the model's own chat template;
--text takes another: .jsonl is rendered likewise, all else is taken as it is. --score-file adds the
share of its rows answered right, greedily, through a private llama-server; --evaluation takes the shares
that evaluate.py has found, for models that it called LABEL and `LABEL TYPE`. With --manifests every
model of a manifest in that folder is measured and its figures are written there. A file that falls
short of --max-kld or --min-score is refused: exit status 3. `--no-gate` only reports. `--dry-run`
prints the llama.cpp commands.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import plain_markers
import private_server
import quality_figures as figures
import stage
import task_score
from corral.datasets.template_server import command as template_command
from corral.errors import GateError
from corral.registry import manifest as manifests
from corral.registry.disk import hash_of
from corral.registry.quant_types import quant_types
from evaluation.rows import read_rows
from evaluation_text import evaluation_text
from llama_tools import LlamaTools, printed
from quality_figures import Text
from quality_gate import MAX_KLD, MAX_SCORE_LOSS, Gate, refusal
from quality_page import page
from quality_subjects import Subject, check_same_model, subject_of, subjects
from quant_coverage import coverage, parts

EVALUATION = Path(__file__).with_name("evaluation.jsonl")
ROWS = ".jsonl"
# Windows in tokens: for rows, so that the default ones fill windows; for plain text, as is usual.
ROWS_CONTEXT, TEXT_CONTEXT = 128, 512


class Measurer:
    """Measures subjects on one text, one after the other; `close` removes what it has saved."""

    def __init__(self, args: argparse.Namespace, reporter: stage.Reporter) -> None:
        self._args, self._reporter = args, reporter
        self.tools = LlamaTools(args.bin, log=args.events is not None)
        self._folder = tempfile.TemporaryDirectory(prefix="corral-measure-")
        self.work = Path(self._folder.name)
        self.logits = self.work / "base.kld"
        self.text = Text(args.text, context(args), args.chunks)
        self._rows = read_rows(args.score_file, args.score_rows) if args.score_file else []

    def close(self) -> None:
        """Remove the saved probabilities and copies."""
        self._folder.cleanup()

    def base(self, subject: Subject) -> dict[str, Any]:
        """The unquantised model's figures; what the others are compared with is saved."""
        model = subject.path
        if self._args.text.suffix == ROWS:
            model, markers = plain_markers.copy(subject.path, self.work)
            self.text = replace(self.text, path=self._rendered(subject.path, markers))
        argv = figures.base_command(self.tools, model, self.text, self.logits, self._args.threads)
        tell = self._teller(subject.name)
        ppl = figures.base_perplexity(self.tools, argv, model, self.text, self.logits, tell)
        if model != subject.path:
            model.unlink()
        row = {**self._described(subject), "ppl": ppl, **self._speed(subject)}
        return {**row, **self._score(subject, self._args.label)}

    def quantised(self, subject: Subject, base: dict[str, Any]) -> dict[str, Any]:
        """A quantised file's figures, gate apart."""
        argv = figures.kld_command(
            self.tools, subject.path, self.text, self.logits, self._args.threads
        )
        found = figures.divergence(self.tools, argv, self._teller(subject.name))
        ratio = {"ppl_ratio": round(found["ppl"] / base["ppl"], 5)}
        covered = coverage(subject.path, subject.kind, subject.overrides).as_json()
        row = {**self._described(subject), **found, **ratio, **self._speed(subject), **covered}
        return {**row, **self._score(subject, f"{self._args.label} {subject.kind.name}")}

    def _rendered(self, model: Path, markers: dict[str, str]) -> Path:
        """The rows as the model sees them: through its chat template, where it has one."""
        rows = read_rows(self._args.text, None)
        text = evaluation_text(self.tools, model, rows, self.text.ctx)
        rendered = self.work / "text.txt"
        # llama.cpp drops one newline at the end of a file.
        rendered.write_text(f"{plain_markers.plain(text, markers)}\n", encoding="utf-8")
        return rendered

    def _described(self, subject: Subject) -> dict[str, Any]:
        files = parts(subject.path)
        return {
            "name": subject.name,
            "type": subject.kind.name,
            "sha256": hash_of(files[0]),
            "bytes": sum(file.stat().st_size for file in files),
        }

    def _speed(self, subject: Subject) -> dict[str, float]:
        if self._args.no_bench:
            return {}
        argv = figures.bench_command(self.tools, subject.path, self._args.threads)
        return figures.parse_bench(self.tools.run(argv))

    def _score(self, subject: Subject, label: str) -> dict[str, float]:
        if self._args.evaluation:
            return {"score": task_score.found(self._args.evaluation, label)}
        if not self._rows:
            return {}
        self._reporter.message(f"{subject.name}: asking {len(self._rows)} rows")
        server = private_server.PrivateServer(
            self.tools, subject.path, self._args.lora, self._args.threads
        )
        with server:
            return {"score": task_score.score(server, self._rows)}

    def _teller(self, name: str) -> figures.OnChunk:
        return lambda done, total: self._reporter.progress(done, total, "chunks", name)


def main(args: argparse.Namespace, reporter: stage.Reporter) -> None:
    tools = LlamaTools(args.bin)
    types = quant_types(tools.folder)
    if args.dry_run:
        show(args, tools)
        return
    base, found = subject_of(args.base, types), subjects(args, types)
    check_same_model(args.base, found)
    measurer = Measurer(args, reporter)
    try:
        measured = measure(measurer, replace(base, name=args.name or base.name), found, args)
    finally:
        measurer.close()
    keep(measured, found, args)
    reporter.result(measured)
    refused = [row for row in measured["types"] if not row["gate"]["passed"]]
    if refused and not args.no_gate:
        raise GateError(refusal(refused))


def measure(
    measurer: Measurer, base: Subject, found: list[Subject], args: argparse.Namespace
) -> dict[str, Any]:
    """Every figure and verdict; the script's result."""
    first = measurer.base(base)
    gate = Gate(args.max_kld, args.min_score)
    if gate.min_score is None and "score" in first:
        gate = Gate(args.max_kld, round(first["score"] - MAX_SCORE_LOSS, 4))
    rows = [measurer.quantised(subject, first) for subject in found]
    text = {"file": args.text.name, "sha256": hash_of(args.text), "ctx": context(args)}
    return {
        "base": first,
        "text": {**text, "chunks": args.chunks},
        "gate": {"max_kld": gate.max_kld, "min_score": gate.min_score},
        "llama_cpp": commit(measurer.tools),
        "types": [{**row, "gate": gate.judge(row)} for row in rows],
    }


def context(args: argparse.Namespace) -> int:
    """The window that was asked for, or that suits the text."""
    return int(args.ctx or (ROWS_CONTEXT if args.text.suffix == ROWS else TEXT_CONTEXT))


def commit(tools: LlamaTools) -> str:
    """The commit that llama.cpp's programs were built from, as they say it."""
    said = tools.run(tools.argv(figures.PERPLEXITY, "--version"))
    return said.partition("commit ")[2].partition(")")[0]


def keep(measured: dict[str, Any], found: list[Subject], args: argparse.Namespace) -> None:
    """Write page and manifests; a refused file's manifest is taken away."""
    if args.html:
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(page(measured), encoding="utf-8")
    about = {key: measured[key] for key in ("text", "llama_cpp")}
    for subject, row in zip(found, measured["types"], strict=True):
        if subject.manifest is None:
            continue
        base = {key: measured["base"][key] for key in ("name", "sha256", "ppl")}
        metrics = {**subject.manifest.metrics, "measure": {**row, **about, "base": base}}
        if row["gate"]["passed"] or args.no_gate:
            manifests.write(
                subject.manifest.model_copy(update={"metrics": metrics}), args.manifests
            )
        else:
            name = f"{subject.manifest.name}{manifests.SUFFIX}"
            (args.manifests / name).unlink(missing_ok=True)


def show(args: argparse.Namespace, tools: LlamaTools) -> None:
    """Print the llama.cpp commands; nothing runs. Files in between are named by what they hold."""
    text, logits = Text(args.text, context(args), args.chunks), Path("base.kld")
    model = args.base
    if args.text.suffix == ROWS:
        server = tools.path(private_server.SERVER)
        print(printed(template_command(server, model, Path("template.sock"))))
        text, model = replace(text, path=Path("text.txt")), Path(f"plain-markers-{model.name}")
    print(printed(figures.base_command(tools, model, text, logits, args.threads)))
    lines = []
    for path in [args.base, *args.models]:
        if path != args.base:
            lines.append(figures.kld_command(tools, path, text, logits, args.threads))
        if not args.no_bench:
            lines.append(figures.bench_command(tools, path, args.threads))
        if args.score_file:
            lines.append(private_server.command(tools, path, args.lora, 0, args.threads))
    for line in lines:
        print(printed(line))


def arguments() -> argparse.ArgumentParser:
    parser = stage.parser(__doc__)
    add = parser.add_argument
    add("models", nargs="*", type=Path, help="quantised GGUFs; of shards, the first")
    add("--base", type=Path, required=True, help="the unquantised model, GGUF")
    add("--name", help="its name (default: the file's)")
    add("--manifests", type=Path, help="folder of manifests to write the figures into")
    add("--bin", type=Path, help="folder of llama.cpp's programs (default: the build's)")
    add("--text", type=Path, default=EVALUATION, help="text or chat rows (.jsonl) to measure on")
    add("--ctx", type=int, help="window in tokens (default 128 for rows, 512 for text)")
    add("--chunks", type=int, help="only the first N windows")
    scores = parser.add_mutually_exclusive_group()
    scores.add_argument("--score-file", type=Path, help="evaluation rows, OpenAI chat JSONL")
    scores.add_argument("--evaluation", type=Path, help="evaluate.py's --out, for its shares")
    add("--label", default="base", help="what BASE is called there (default base)")
    add("--score-rows", type=int, help="only the first N of them")
    add("--lora", type=Path, help="adapter to score with, GGUF")
    add("--max-kld", type=float, default=MAX_KLD, help=f"the bar (default {MAX_KLD})")
    add("--min-score", type=float, help="least share right (default: the base's less 0.05)")
    add("--no-gate", action="store_true", help="report only")
    add("--no-bench", action="store_true", help="leave the speeds out")
    add("--html", type=Path, help="write the page here")
    add("--threads", type=int, help="threads (default: llama.cpp's)")
    add("--dry-run", action="store_true", help="print the llama.cpp commands only")
    return parser


if __name__ == "__main__":
    stage.run(main, arguments().parse_args())
