"""`corral data folio`: records of a FOLIO system as training rows."""

import sys
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated

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
from corral.errors import AuthenticationError

PASSWORD_VARIABLE = "FOLIO_PASSWORD"


class KindName(StrEnum):
    """What FOLIO holds that rows can be made of."""

    inventory = "inventory"
    orders = "orders"
    invoices = "invoices"


def folio(
    url: Annotated[str, typer.Option(help="FOLIO's gateway: Okapi or Kong (Eureka).")],
    tenant: Annotated[str, typer.Option(help="The tenant's id.")],
    user: Annotated[str, typer.Option(help="A user who may view the records.")],
    out: Out,
    limit: Annotated[int, typer.Option(min=0, help="So many rows; 0: all there are.")] = 1000,
    random: Annotated[bool, typer.Option("--random", help="A fair sample, by --seed.")] = False,
    query: Annotated[str, typer.Option(help="CQL.")] = "cql.allRecords=1",
    kind: Annotated[KindName, typer.Option(help="Which records.")] = KindName.inventory,
    template: Annotated[
        Path | None, typer.Option(help="Jinja template; the kind's own when not given.")
    ] = None,
    to: To = "openai",
    seed: Seed = 1,
    password_file: Annotated[
        Path | None, typer.Option(help=f"File with the password; else {PASSWORD_VARIABLE}.")
    ] = None,
    page_size: Annotated[int, typer.Option(min=1, max=1000, help="Records in a request.")] = 100,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make rows from FOLIO's records: ids turned into names, then prompt and JSON by a template."""
    from corral.datasets import formats
    from corral.datasets.findings import Place
    from corral.datasets.sources import folio as source
    from corral.datasets.sources import template as templates
    from corral.datasets.sources.folio_kinds import kind_of
    from corral.datasets.sources.folio_source import FolioSource, Login, check_url
    from corral.datasets.sources.journal import open_journal

    found = kind_of(kind.value)
    filled = templates.from_file(template) if template else templates.bundled(found.template)
    formats.get(to)
    address = check_url(url)
    wanted = source.Wanted(found, limit or 10**9, query, random, seed, page_size, to)
    settings = {
        "url": address, "tenant": tenant, "kind": kind.value, "query": query, "limit": limit,
        "random": random, "seed": seed, "page_size": page_size, "to": to,
        "template": sha256(filled.source.encode()).hexdigest(),
    }  # fmt: skip
    with (
        output.collected(20, None) as findings,
        output.progress("fetching") as step,
        open_journal(out, settings, resume=resume, overwrite=overwrite) as journal,
    ):
        if address.startswith("http://") and "//127." not in address:
            say("warning: the password travels unencrypted; use https where the gateway has it")
        login = Login(address, tenant, user, _password(user, password_file))
        with FolioSource(login, report=say) as session:
            place = Place(findings, str(out))
            summary = source.collect(session, wanted, filled, journal, place, step)
        journal.finish({"rows": summary.rows})
    result = {"file": str(out), **jsonable(summary)}
    if summary.rows < min(limit, summary.total):
        say(f"{summary.passed_over:,} of {summary.total:,} records gave no row")
    output.selection(result, findings, as_json)


def _password(user: str, file: Path | None) -> str:
    found = secret(file, PASSWORD_VARIABLE)
    if found:
        return found
    if sys.stdin.isatty():
        return str(typer.prompt(f"password of {user}", hide_input=True, err=True))
    raise AuthenticationError(
        f"no password: give --password-file, set {PASSWORD_VARIABLE}, or run in a terminal"
    )
