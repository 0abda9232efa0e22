"""`corral data folio` against a FOLIO that is a real HTTP server: logins, pages, faults, cuts."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from corral.cli import data_sources
from corral.datasets.findings import Findings, Place
from corral.datasets.sources import folio, template
from corral.datasets.sources.folio_kinds import INVENTORY
from corral.datasets.sources.folio_source import FolioSource, Login
from corral.datasets.sources.journal import journal_path, open_journal
from corral.datasets.sources.retry import Patience
from corral.errors import (
    AuthenticationError,
    BadRequest,
    CorralError,
    NotFound,
    PermissionDenied,
    UpstreamError,
)
from tests.fakes.folio_records import COURTS, STATISTICS, instances, invoices, orders, uuid
from tests.fakes.folio_server import PASSWORD, TENANT, USER, Flavour, FolioServer

STORAGE, INVENTORY_PATH = "/instance-storage/instances", "/inventory/instances"
SYSTEM = "As an expert cataloger, you will create the FOLIO inventory JSON record."
FIRST_ANSWER = {
    "title": "Vacancies in certain judgeships.",
    "contributors": [],
    "subjects": [
        {"value": "Courts"},
        {"value": "Judges"},
        {"value": "United States--Officials and employees"},
        {"value": "Electronic books"},
    ],
    "classifications": [],
    "publication": [
        {
            "publisher": "[publisher not identified]",
            "place": "Washington",
            "dateOfPublication": "1935",
            "role": "Publication",
        }
    ],
    "instanceTypeText": "text",
    "modeOfIssuanceText": "single unit",
}
SECOND_PROMPT = (
    "For Statistical applications for chemistry, manufacturing and controls (CMC) in the "
    "pharmaceutical industry /Richard K. Burdick [and others]. Published in 2017 by Springer, Cham"
)
SECOND_ANSWER = {
    "title": "Statistical applications for chemistry, manufacturing and controls (CMC) in the "
    "pharmaceutical industry /Richard K. Burdick [and others].",
    "contributors": [],
    "publication": [
        {"publisher": "Springer", "place": "Cham :", "dateOfPublication": "2017", "role": None}
    ],
    "instanceTypeText": "text",
    "modeOfIssuanceText": "Monograph",
}

app = typer.Typer()
data_sources.register(app)


@pytest.fixture(autouse=True)
def no_wait_after_403(monkeypatch: pytest.MonkeyPatch) -> None:
    """folioclient waits a second before it believes a 403."""
    monkeypatch.setenv("FOLIOCLIENT_FORBIDDEN_RETRY_DELAY", "0")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


Run = Callable[..., Result]


@pytest.fixture
def run(password_file: Path, tmp_path: Path) -> Run:
    def run(server: FolioServer, *arguments: str, out: str = "out.jsonl") -> Result:
        base = ["--url", server.url, "--tenant", TENANT, "--user", USER, "--json"]
        files = ["--password-file", str(password_file), "--out", str(tmp_path / out)]
        return CliRunner().invoke(app, ["folio", *base, *files, *arguments])

    return run


def failed(result: Result, kind: type[CorralError]) -> str:
    assert isinstance(result.exception, kind), result.output
    assert PASSWORD not in result.exception.message
    return result.exception.message


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def library() -> Iterator[FolioServer]:
    """5,000 instances; a token is good for 20 requests."""
    both = [COURTS, STATISTICS, *instances(4998)[1]]
    with FolioServer({STORAGE: ("instances", both)}, token_uses=20) as server:
        yield server


def collect(
    server: FolioServer, out: Path, slept: list[float] | None = None, **wanted: Any
) -> folio.Summary:
    """What the command does, with a clock that does not wait."""
    sleep = (slept if slept is not None else []).append
    asked = folio.Wanted(INVENTORY, **wanted)
    login = Login(server.url, TENANT, USER, PASSWORD)
    with (
        open_journal(out, {}, resume=True) as journal,
        FolioSource(login, sleep=sleep, patience=Patience(tries=4)) as source,
    ):
        place = Place(Findings(), "out")
        return folio.collect(source, asked, template.bundled("inventory.jinja"), journal, place)


@pytest.mark.parametrize("flavour", ["okapi", "eureka"])
def test_the_first_users_two_rows(flavour: Flavour, run: Run, tmp_path: Path) -> None:
    with FolioServer({STORAGE: ("instances", [COURTS, STATISTICS])}, flavour=flavour) as server:
        result = run(server)
        assert (result.exit_code, server.logged_out) == (0, 1), result.output
    by_title = {
        json.loads(row["messages"][2]["content"])["title"]: row
        for row in rows(tmp_path / "out.jsonl")
    }
    first, second = (
        by_title[answer["title"]]["messages"] for answer in (FIRST_ANSWER, SECOND_ANSWER)
    )
    assert first[:2] == [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": "For Vacancies in certain judgeships. Published in 1935 by [publisher not "
            "identified], Washington Subjects are Courts, Judges, United States--Officials and "
            "employees, Electronic books.",
        },
    ]
    assert json.loads(first[2]["content"]) == FIRST_ANSWER
    assert second[1]["content"] == SECOND_PROMPT
    assert json.loads(second[2]["content"]) == SECOND_ANSWER
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["total"], summary["ok"]) == (2, 2, True)


def test_the_second_row_as_mlx_text(run: Run, tmp_path: Path) -> None:
    with FolioServer({STORAGE: ("instances", [STATISTICS])}) as server:
        assert run(server, "--to", "mlx-text").exit_code == 0
    question, _, answer = rows(tmp_path / "out.jsonl")[0]["text"].partition(" A:")
    assert question == f"{SYSTEM} Q:{SECOND_PROMPT}"
    assert json.loads(answer) == SECOND_ANSWER


def test_five_thousand_records_with_failing_pages_and_expiring_tokens(
    library: FolioServer, tmp_path: Path
) -> None:
    library.faults = {
        (STORAGE, 300): [(500, {}), (502, {}), (429, {"Retry-After": "7"})],
        (STORAGE, 4900): [(503, {"Retry-After": "0"}), (504, {})],
        (STORAGE, 2000): [(401, {})],
    }
    library.login_faults = [503]
    slept: list[float] = []
    summary = collect(library, tmp_path / "out.jsonl", slept, limit=10**6)
    # Every 50th of the generated ones has no title.
    assert (summary.total, summary.rows, summary.passed_over) == (5000, 4900, 100)
    titles = [
        json.loads(row["messages"][2]["content"])["title"] for row in rows(tmp_path / "out.jsonl")
    ]
    assert len(set(titles)) == 4900
    assert 7 in slept
    assert len(slept) == 6
    assert library.logins >= 4
    assert library.requests["/instance-types"] == library.requests["/modes-of-issuance"] == 1
    # instances() points at a type that was deleted in every seventh record.
    assert summary.missing_names == {"/instance-types": 714}


def test_a_cut_run_goes_on_and_ends_as_if_it_had_not_been_cut(
    library: FolioServer, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    wanted: dict[str, Any] = {"limit": 150, "random": True, "seed": 3, "page_size": 500}
    collect(library, whole, **wanted)
    needed = library.requests[STORAGE]
    library.faults = {(STORAGE, offset): [(500, {})] * 4 for offset in range(2500, 5000)}
    with pytest.raises(
        UpstreamError,
        match=r"GET /instance-storage/instances: FOLIO answered 500, 4 times; run again with --resume",
    ):
        collect(library, cut, **wanted)
    assert 0 < len(rows(cut)) < 150
    library.faults = {}
    before = library.requests[STORAGE]
    assert collect(library, cut, **wanted).rows == 150
    assert cut.read_bytes() == whole.read_bytes()
    assert library.requests[STORAGE] - before < needed - 2
    assert collect(library, cut, **wanted).rows == 150
    assert cut.read_bytes() == whole.read_bytes()


def test_a_killed_run_goes_on(
    library: FolioServer, password_file: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out.jsonl"
    reached, go_on = threading.Event(), threading.Event()
    answer = library.get

    def hold(path: str, params: dict[str, str], tenant: str, token: str) -> Any:
        if path == STORAGE and params.get("offset") == "300":
            reached.set()
            go_on.wait(30)
        return answer(path, params, tenant, token)

    library.get = hold  # type: ignore[method-assign]
    program = "import typer; from corral.cli.data_sources import register; a = typer.Typer(); register(a); a()"
    arguments = ["--url", library.url, "--tenant", TENANT, "--user", USER, "--out", str(out)]
    command = [sys.executable, "-c", program, "folio", *arguments, "--limit", "500"]
    child = subprocess.Popen(
        [*command, "--password-file", str(password_file)], stderr=subprocess.PIPE
    )
    try:
        assert reached.wait(60)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
        go_on.set()
    kept = sum(step.get("rows", 0) for step in rows(journal_path(out)))
    assert len(rows(out)) == kept > 200
    result = run(library, "--limit", "500", "--resume")
    assert (result.exit_code, json.loads(result.stdout)["rows"]) == (0, 500), result.output
    assert len({row["messages"][2]["content"] for row in rows(out)}) == 500


def test_a_random_sample_is_fair_repeatable_and_reads_little(
    library: FolioServer, run: Run, tmp_path: Path
) -> None:
    for out, seed in (("a.jsonl", "1"), ("b.jsonl", "1"), ("c.jsonl", "2")):
        result = run(library, "--random", "--limit", "20", "--seed", seed, out=out)
        assert json.loads(result.stdout)["rows"] == 20
    a, b, c = (
        [row["messages"][2]["content"] for row in rows(tmp_path / name)]
        for name in ("a.jsonl", "b.jsonl", "c.jsonl")
    )
    assert a == b
    assert len(set(a)) == 20
    assert len(set(a) & set(c)) < 5
    assert library.records_sent < 3 * 1000


def test_a_query_is_passed_on(library: FolioServer, run: Run) -> None:
    result = run(library, "--query", 'languages=="ger"', "--limit", "0", "--page-size", "1000")
    summary = json.loads(result.stdout)
    assert 2000 < summary["total"] < 3000
    assert summary["rows"] + summary["passed_over"] == summary["total"]
    message = failed(run(library, "--query", "title any", out="b.jsonl"), BadRequest)
    assert "CQL Parsing Error" in message
    assert "check --query" in message


@pytest.mark.parametrize(
    ("kind", "tables", "prompt"),
    [
        (
            "orders", orders(),
            "One-Time order to GOBI Library Solutions: 2 x Dune / Herbert, Frank, Ace Books, 1965, "
            "Physical Resource, 29.95 USD, fund FICTION; 2 x Dune messiah / Herbert, Frank, Ace "
            "Books, 1965, Physical Resource, 29.95 USD, fund FICTION.",
        ),
        (
            "invoices", invoices(),
            "Invoice INV-7 from Otto Harrassowitz, dated 2024-05-01, in EUR: 1 x Beiträge zur "
            "Botanik 80.5, fund BOT. Pay by EFT.",
        ),
    ],
)  # fmt: skip
def test_orders_and_invoices(kind: str, tables: Any, prompt: str, run: Run, tmp_path: Path) -> None:
    with FolioServer(tables) as server:
        result = run(server, "--kind", kind)
        assert result.exit_code == 0, result.output
    (row,) = rows(tmp_path / "out.jsonl")
    assert row["messages"][1]["content"] == prompt
    answer = json.loads(row["messages"][2]["content"])
    assert answer["vendorText"] in prompt
    if kind == "orders":
        assert [line["acquisitionMethodText"] for line in answer["poLines"]] == ["Purchase"] * 2


def test_a_template_of_ones_own(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text(
        "{% block user %}{{ record.title }}{% endblock %}"
        '{% block assistant %}{"names": {{ record.contributors | each("name", '
        '"contributorNameTypeText") | tojson }}}{% endblock %}'
    )
    with FolioServer({STORAGE: instances(20)}) as server:
        assert run(server, "--template", str(mine)).exit_code == 0
        mine.write_text(
            "{% block user %}{{ 1 // 0 }}{% endblock %}{% block assistant %}{}{% endblock %}"
        )
        result = run(server, "--template", str(mine), out="bad.jsonl")
    found = [
        json.loads(row["messages"][1]["content"])["names"] for row in rows(tmp_path / "out.jsonl")
    ]
    assert {name["contributorNameTypeText"] for names in found for name in names} == {
        "Personal name"
    }
    assert result.exit_code == 1
    assert json.loads(result.stdout)["totals"]["error"] == {"template_failed": 20}


def test_the_other_path_is_taken_where_storage_is_forbidden(run: Run, tmp_path: Path) -> None:
    tables = {STORAGE: ("instances", [COURTS]), INVENTORY_PATH: ("instances", [COURTS])}
    with FolioServer(tables, forbidden=frozenset([STORAGE, "/instance-types"])) as server:
        result = run(server)
        assert result.exit_code == 0, result.output
    answer = json.loads(rows(tmp_path / "out.jsonl")[0]["messages"][2]["content"])
    assert (answer["instanceTypeText"], answer["modeOfIssuanceText"]) == (None, "single unit")
    totals = json.loads(result.stdout)["totals"]
    assert totals == {"warning": {"names_unread": 1}, "note": {"other_path": 1}}
    with FolioServer(tables, forbidden=frozenset([STORAGE, INVENTORY_PATH])) as server:
        message = failed(run(server, out="b.jsonl"), PermissionDenied)
    assert message.startswith(f"user '{USER}' of tenant '{TENANT}' may not read {INVENTORY_PATH}")


def test_a_wrong_password_is_said_without_showing_it(run: Run, password_file: Path) -> None:
    password_file.write_text("wrong")
    with FolioServer() as server:
        message = failed(run(server), AuthenticationError)
    assert "Password does not match" in message
    assert "wrong" not in message


def test_a_gateway_that_is_none_or_too_old(run: Run) -> None:
    with FolioServer(flavour="old") as server:
        assert "older than the Poppy release" in failed(run(server), NotFound)
    with FolioServer() as server:
        server.login = lambda *arguments: (200, "<html>", {})  # type: ignore[method-assign]
        assert "not the user interface?" in failed(run(server, "--overwrite"), UpstreamError)


def test_the_password_comes_from_the_environment_too_and_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with FolioServer({STORAGE: ("instances", [COURTS])}) as server:
        command = [
            "folio",
            "--url",
            server.url,
            "--tenant",
            TENANT,
            "--user",
            USER,
            "--out",
            str(out),
        ]
        monkeypatch.delenv("FOLIO_PASSWORD", raising=False)
        message = failed(CliRunner().invoke(app, command), AuthenticationError)
        assert "FOLIO_PASSWORD" in message
        monkeypatch.setenv("FOLIO_PASSWORD", PASSWORD)
        result = CliRunner().invoke(app, [*command, "--resume"])
        assert result.exit_code == 0, result.output
    written = out.read_text() + journal_path(out).read_text()
    assert PASSWORD not in result.output + written + repr(Login(server.url, TENANT, USER, PASSWORD))


@pytest.mark.parametrize("url", ["folio.example", "ftp://x/", "https://me:secret@folio.example"])
def test_addresses_that_are_none(url: str, tmp_path: Path) -> None:
    command = [
        "folio",
        "--url",
        url,
        "--tenant",
        "t",
        "--user",
        "u",
        "--out",
        str(tmp_path / "o.jsonl"),
    ]
    assert "secret" not in failed(CliRunner().invoke(app, command), BadRequest)
    assert not (tmp_path / "o.jsonl").exists()


def test_ids_stay_unique_in_the_fake() -> None:
    assert len({uuid(number) for number in range(20_000)}) == 20_000
