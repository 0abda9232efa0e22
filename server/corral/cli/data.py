"""`corral data …`: convert, check, count, show, split, sample, shuffle and mix training data.

Works on files alone: no running Corral, no network, but for the sources of `data_sources`. Exit code 0: good; 1: errors in the data (or,
under --strict, losses); 2: wrong usage. Further verbs that make data join `app` from files of
their own. Imports of `corral.datasets` stand in the functions: numpy would slow `corral --help`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import data_edge_ai, data_selection, data_sources
from corral.cli import data_output as output
from corral.errors import BadRequest, InvalidData

if TYPE_CHECKING:
    from corral.datasets.rendering import Renderer
    from corral.datasets.rows import Row

app = typer.Typer(
    help="Training data: from FOLIO, folders, models; convert, check, count, split, mix.",
    no_args_is_help=True,
)
for verb in (
    data_selection.split,
    data_selection.sample,
    data_selection.shuffle,
    data_selection.mix,
):
    app.command(verb.__name__)(verb)
app.command("edge-ai")(data_edge_ai.edge_ai)
data_sources.register(app)


class FormatName(StrEnum):
    """The formats; a test holds this list to `corral.datasets.formats`."""

    openai = "openai"
    openai_dpo = "openai-dpo"
    prompt_completion = "prompt-completion"
    mlx = "mlx"
    mlx_text = "mlx-text"
    sharegpt = "sharegpt"
    alpaca = "alpaca"
    axolotl = "axolotl"
    axolotl_completion = "axolotl-completion"
    trl = "trl"
    gemini = "gemini"
    bedrock = "bedrock"


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
From = Annotated[
    FormatName | None, typer.Option("--from", help="Format of IN; found by itself when not given.")
]
MaxFindings = Annotated[int, typer.Option(min=0, help="Findings to print of each run; 0 for all.")]
Report = Annotated[Path | None, typer.Option(help="Write every finding to this JSONL file.")]
Seed = Annotated[int, typer.Option(help="Another seed, another choice; the same seed, the same.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A GGUF file, or a name from corral models ls.")
]
DataDir = Annotated[Path | None, typer.Option(help="Data directory, for --model NAME.")]


@app.command("convert")
def convert_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="JSONL, JSON array, CSV, Parquet, or an mlx folder."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The suffix decides: .jsonl .json .csv .tsv .parquet."),
    ],
    to: Annotated[FormatName, typer.Option("--to", help="Format of OUT.")],
    source_format: From = None,
    strict: Annotated[bool, typer.Option(help="Write nothing if anything would be lost.")] = False,
    fix_answers: Annotated[
        bool, typer.Option(help="Rewrite Python literals among answers as JSON.")
    ] = False,
    check: Annotated[
        bool, typer.Option(help="Check in the same pass; rows with errors are left out.")
    ] = False,
    valid: Annotated[float, typer.Option(help="Share of valid.jsonl, for an mlx folder.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of test.jsonl, for an mlx folder.")] = 0.0,
    seed: Seed = 1,
    max_findings: MaxFindings = 20,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Convert a dataset. What the target cannot hold is reported row by row."""
    from corral.datasets.convert import Options, convert

    options = Options(
        to=to.value,
        source_format=source_format.value if source_format else None,
        strict=strict,
        fix_answers=fix_answers,
        check=check,
        valid=valid,
        test=test,
        seed=seed,
    )
    with (
        output.collected(max_findings, report, strict=strict) as findings,
        output.progress("converting") as step,
    ):
        results = convert(source, target, options, findings, step)
    output.conversions(results, findings, max_findings, as_json)


@app.command("check")
def check_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Files or mlx folders; what several share is a leak."),
    ],
    source_format: From = None,
    model: ModelName = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Warn of rows over so many tokens (needs --model).")
    ] = None,
    near_duplicates: Annotated[bool, typer.Option(help="Look for nearly equal rows.")] = True,
    secrets: Annotated[bool, typer.Option(help="Look for secrets and personal data.")] = True,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page.")] = None,
    max_findings: MaxFindings = 100,
    report: Report = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Check datasets: encoding, JSON, schema, turns, answers, duplicates, leaks, secrets, length."""
    from corral.datasets.check import Options, check_files

    if context is not None and model is None:
        raise BadRequest(
            "--context needs --model: tokens are counted by the model's own tokenizer",
            param="context",
        )
    with (
        output.collected(max_findings, report) as findings,
        _renderer(model, data_dir) as (renderer, found_context),
    ):
        options = Options(
            format=source_format.value if source_format else None,
            near_duplicates=near_duplicates,
            sensitive=secrets,
            context=context or found_context,
            measure=_measure(renderer),
        )
        with output.progress("checking") as step:
            reports = check_files(output.expand(files), findings, options, step)
    if html is not None:
        output.write_html(html, "Dataset check", reports, findings)
    output.checks(reports, findings, max_findings, as_json)


@app.command("count")
def count_command(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    model: Annotated[
        str, typer.Option("--model", help="A GGUF file, or a name from corral models ls.")
    ],
    source_format: From = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Count so many rows and scale up; 0 for all.")
    ] = 2000,
    context: Annotated[
        int | None, typer.Option(min=1, help="Context; the model's own when not given.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Count tokens with the model's own template and tokenizer, and estimate a training run."""
    from corral.datasets import counting
    from corral.datasets.census import census

    path = _model_path(model, data_dir)
    facts = counting.model_facts(path)
    with (
        output.collected(0, None) as findings,
        _renderer(model, data_dir) as (renderer, _),
        output.progress("counting") as step,
    ):
        assert renderer is not None
        name = source_format.value if source_format else None
        result = census(
            file, name, renderer, findings, sample, context or facts.context or None, step
        )
    estimate = counting.estimate(facts, result.counts, counting.measured_speed())
    if html is not None:
        output.write_html(
            html, f"Tokens of {file.name}", [result.report], findings, result.counts, estimate
        )
    output.census(result, estimate, findings, as_json)


@app.command("show")
def show_command(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    source_format: From = None,
    model: ModelName = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the format of a file and its first rows; with --model, as the model sees them, the
    learned parts marked »so«."""
    from corral.datasets.census import first_rows, marked

    name = source_format.value if source_format else None
    with output.collected(0, None) as findings, _renderer(model, data_dir) as (renderer, _):
        format, shown = first_rows(file, name, rows, findings)
        texts = [
            [marked(example, renderer.tokens) for example in renderer.render(row)]
            if renderer
            else None
            for row in shown
        ]
    output.rows(file, format, shown, texts, findings, as_json)


@app.command("formats")
def formats_command(
    name: Annotated[
        FormatName | None, typer.Argument(help="One format; all when not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain the formats."""
    from corral.datasets.formats import FORMATS

    chosen = [FORMATS[name.value]] if name else list(FORMATS.values())
    if as_json:
        print(
            json.dumps(
                [{"name": f.name, "title": f.title, "rules": f.rules} for f in chosen], indent=2
            )
        )
        return
    for format in chosen:
        print(f"{format.name}: {format.title}", *(f"  {rule}" for rule in format.rules), sep="\n")


def _model_path(model: str, data_dir: Path | None) -> Path:
    """The GGUF of a name or path; of an adapter, its base, for that has the tokenizer."""
    if Path(model).is_file():
        return Path(model)
    if model.endswith(".gguf"):
        raise InvalidData(
            f"{model} is no file; give a GGUF file or a name from corral models ls", param="model"
        )
    from corral import settings
    from corral.registry.scan import scan

    catalog = scan(settings.load({"data_dir": data_dir}))
    found = catalog.find(model)
    return catalog.find(found.base).path if found.base else found.path


@contextmanager
def _renderer(
    model: str | None, data_dir: Path | None
) -> Iterator[tuple["Renderer | None", int | None]]:
    """A renderer for the model, and the model's context; nothing without a model."""
    if model is None:
        yield None, None
        return
    from corral import settings
    from corral.datasets.counting import model_facts
    from corral.datasets.rendering import Renderer
    from corral.datasets.template_server import TemplateServer
    from corral.datasets.tokenizer import Tokenizer

    path = _model_path(model, data_dir)
    programs = settings.load({"data_dir": data_dir}).llama_bin_dir
    with (
        Tokenizer(path, programs) as tokens,
        TemplateServer(path, programs / "llama-server") as template,
    ):
        yield Renderer(template, tokens), model_facts(path).context or None


def _measure(renderer: "Renderer | None") -> Any:
    def longest(row: "Row") -> int:
        assert renderer is not None
        return max(len(example.tokens) for example in renderer.render(row))

    return longest if renderer else None
