"""`corral data folder`: documents as training rows, as they are or as question-answer pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import data_output as output
from corral.cli.data_generate import (
    BaseURL,
    KeyFile,
    MaxAnswer,
    MaxRequests,
    MaxTokens,
    Parallel,
    Temperature,
    end,
    teacher_at,
)  # fmt: skip
from corral.cli.source_options import AsJson, Overwrite, Resume, Seed, jsonable
from corral.errors import BadRequest

if TYPE_CHECKING:
    from corral.datasets.findings import Findings
    from corral.datasets.sources.chunks import Length
    from corral.datasets.sources.folder import Passage
    from corral.datasets.sources.generate import Options
    from corral.datasets.sources.teacher import Teacher


class Unit(StrEnum):
    """What chunks are measured in."""

    characters = "characters"
    tokens = "tokens"


def folder(
    source: Annotated[Path, typer.Argument(metavar="FOLDER")],
    out: Annotated[Path, typer.Option("--out", help="The suffix decides; JSONL with --qa.")],
    size: Annotated[int, typer.Option(min=1, help="Most that a chunk may have.")] = 2000,
    overlap: Annotated[int, typer.Option(min=0, help="Said again from the chunk before.")] = 0,
    unit: Annotated[Unit, typer.Option(help="What --size and --overlap count.")] = Unit.characters,
    tokenizer: Annotated[
        Path | None, typer.Option(help="GGUF file whose tokens --unit tokens counts.")
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Hidden files too.")] = False,
    max_file_mb: Annotated[int, typer.Option(min=1, max=2000, help="Pass over bigger files.")] = 50,
    to: Annotated[
        str | None, typer.Option("--to", help="Format; mlx-text, or with --qa openai.")
    ] = None,
    metadata: Annotated[bool, typer.Option(help="A `metadata` key in each text row.")] = True,
    qa: Annotated[bool, typer.Option("--qa", help="Question-answer pairs by a model.")] = False,
    base_url: BaseURL = "",
    model: Annotated[str, typer.Option(help="The endpoint's model, for --qa.")] = "",
    pairs: Annotated[int, typer.Option(min=1, max=50, help="Pairs asked for of a chunk.")] = 3,
    seed: Seed = 1,
    temperature: Temperature = None,
    max_requests: MaxRequests = 0,
    max_tokens: MaxTokens = 0,
    max_answer_tokens: MaxAnswer = 2048,
    parallel: Parallel = 1,
    api_key_file: KeyFile = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make rows from documents: .txt .md .json .html .pdf .docx, cut at headings and paragraphs."""
    from corral.datasets.sources import folder as documents
    from corral.datasets.sources.chunks import Plan
    from corral.datasets.sources.generate import Options

    plan = Plan(size, overlap, size // 4)
    reading = documents.Reading()
    with (
        output.collected(20, None) as findings,
        _length(unit, tokenizer) as length,
        output.progress("reading") as step,
    ):
        how = documents.Options(plan, hidden, max_file_bytes=max_file_mb * 1024 * 1024)
        found = documents.passages(source, how, findings, reading, length)
        if qa:
            teacher = teacher_at(
                base_url, model, api_key_file, max_requests, max_tokens,
                temperature=temperature, max_answer_tokens=max_answer_tokens,
            )  # fmt: skip
            options = Options(parallel=parallel, seed=seed, to=to or "openai")
            settings = {"folder": str(source), "size": size, "overlap": overlap, "pairs": pairs}
            asking = _Asking(teacher, pairs, options, settings, resume, overwrite)
            result = asking.about(list(found), out, findings, step)
        else:
            rows = documents.write_texts(
                found, out, to or "mlx-text", findings,
                metadata=metadata, overwrite=overwrite, progress=step,
            )  # fmt: skip
            result = {"rows": rows}
    output.selection({"file": str(out), **jsonable(reading), **result}, findings, as_json)


class _Asking:
    """How question-answer pairs are asked for."""

    def __init__(
        self,
        teacher: "Teacher",
        pairs: int,
        options: "Options",
        settings: dict[str, Any],
        resume: bool,
        overwrite: bool,
    ) -> None:
        self.teacher = teacher
        self.pairs = pairs
        self.options = options
        self.settings = settings
        self.resume = resume
        self.overwrite = overwrite

    def about(
        self, found: list["Passage"], out: Path, findings: "Findings", progress: Any
    ) -> dict[str, Any]:
        """Ask about every passage; the summary."""
        from corral.datasets import formats
        from corral.datasets.findings import Place
        from corral.datasets.sources.journal import open_journal
        from corral.datasets.sources.questions import ask_about

        formats.get(self.options.to)
        where = self.teacher.endpoint
        settings = {
            **self.settings, "model": where.model, "host": where.host,
            "seed": self.options.seed, "to": self.options.to,
        }  # fmt: skip
        with open_journal(out, settings, resume=self.resume, overwrite=self.overwrite) as journal:
            summary = ask_about(
                found, self.teacher, self.pairs, self.options, journal, Place(findings, str(out)),
                progress,
            )  # fmt: skip
            end(summary, journal)
        return jsonable(summary)


@contextmanager
def _length(unit: Unit, tokenizer: Path | None) -> Iterator["Length"]:
    """How chunks are measured."""
    if unit is Unit.characters:
        yield len
        return
    if tokenizer is None:
        raise BadRequest("--unit tokens needs --tokenizer, a GGUF file", param="tokenizer")
    from corral import settings
    from corral.datasets.tokenizer import Tokenizer

    with Tokenizer(tokenizer, settings.load().llama_bin_dir) as tokens:
        yield lambda text: len(tokens.encode(text, special=False))
