"""`corral data generate`: rows by a teacher model; and what else asks one."""

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import data_output as output
from corral.cli.source_options import (
    AsJson,
    Out,
    Overwrite,
    Resume,
    Seed,
    To,
    jsonable,
    say,
    secret,
)

if TYPE_CHECKING:
    from corral.datasets.sources.generate import Summary
    from corral.datasets.sources.journal import Journal
    from corral.datasets.sources.teacher import Teacher

KEY_VARIABLE = "TEACHER_API_KEY"

BaseURL = Annotated[str, typer.Option(help="OpenAI-compatible endpoint, such as …/v1.")]
KeyFile = Annotated[
    Path | None, typer.Option(help=f"File with the endpoint's key; else {KEY_VARIABLE}, else none.")
]
MaxRequests = Annotated[
    int, typer.Option(min=0, help="Stop after so many requests of this run; 0: no limit.")
]
MaxTokens = Annotated[
    int, typer.Option(min=0, help="Stop after so many tokens of this run; 0: no limit.")
]
MaxAnswer = Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")]
Temperature = Annotated[
    float | None, typer.Option(min=0, max=2, help="The endpoint's own when not given.")
]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Requests at the same time.")]


def generate(
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="A dataset, or .txt with one on each line.")
    ],
    out: Out,
    base_url: BaseURL,
    model: Annotated[str, typer.Option(help="The teacher's name at the endpoint.")],
    evolve: Annotated[int, typer.Option(min=0, help="Rounds of new prompts; 0: only answers.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 1,
    broaden: Annotated[
        float, typer.Option(min=0, max=1, help="Share of new prompts broader, not deeper.")
    ] = 0.2,
    plain: Annotated[
        bool, typer.Option("--plain", help="Send prompts as they are: for a fine-tuned teacher.")
    ] = False,
    schema: Annotated[Path | None, typer.Option(help="JSON Schema that answers must fit.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Tries at an answer that is wrong.")] = 2,
    to: To = "openai",
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
    """Make rows with a teacher model: its answers to prompts, and prompts grown from them."""
    from corral.datasets import formats
    from corral.datasets.findings import Place
    from corral.datasets.sources.acceptance import schema_from_file
    from corral.datasets.sources.generate import Generator, Options
    from corral.datasets.sources.journal import open_journal
    from corral.datasets.sources.prompts import read_prompts

    formats.get(to)
    rules = schema_from_file(schema) if schema else None
    options = Options(evolve, samples, broaden, attempts, parallel, seed, to, plain)
    teacher = teacher_at(
        base_url, model, api_key_file, max_requests, max_tokens,
        temperature=temperature, max_answer_tokens=max_answer_tokens,
    )  # fmt: skip
    with output.collected(20, None) as findings, output.progress("generating") as step:
        asked = read_prompts(prompts, findings)
        settings = {
            "prompts": sha256(prompts.read_bytes()).hexdigest(), "model": teacher.endpoint.model,
            "host": teacher.endpoint.host, "evolve": evolve, "samples": samples, "to": to,
            "broaden": broaden, "seed": seed, "temperature": temperature,
            "plain": plain, "schema": rules and sha256(rules.text.encode()).hexdigest(),
        }  # fmt: skip
        with open_journal(out, settings, resume=resume, overwrite=overwrite) as journal:
            place = Place(findings, str(out))
            run = Generator(teacher, options, journal, place, schema=rules, progress=step)
            summary = run.run(asked)
            end(summary, journal)
    output.selection({"file": str(out), **jsonable(summary)}, findings, as_json)


def end(summary: "Summary", journal: "Journal") -> None:
    """Say what a budget left undone, or close the journal."""
    if not summary.stopped:
        journal.finish({"rows": summary.rows})
        return
    rounds = f" and {summary.rounds_left} rounds" if summary.rounds_left else ""
    say(
        f"stopped by {summary.stopped} after {summary.requests:,} requests and {summary.tokens:,} "
        f"tokens: {summary.left:,} steps{rounds} are left; --resume goes on with them"
    )


def teacher_at(
    base_url: str,
    model: str,
    key_file: Path | None,
    max_requests: int,
    max_tokens: int,
    **options: Any,
) -> "Teacher":
    """The teacher that these options mean."""
    from corral.datasets.sources.budget import Budget
    from corral.datasets.sources.teacher import Teacher, endpoint

    key = secret(key_file, KEY_VARIABLE) or "none"
    where = endpoint(base_url, model, api_key=key, **options)
    return Teacher(where, Budget(max_requests, max_tokens), report=say)
