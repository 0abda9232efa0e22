"""Templates: FOLIO's records as prompts and JSON."""

import json
from typing import Any

import pytest

from corral.datasets.sources.template import (
    Filled,
    Template,
    bundled,
    each,
    from_file,
    without_isbd,
)
from corral.errors import BadRequest, InvalidData, NotFound
from tests.fakes.folio_records import COURTS, STATISTICS

MINIMAL = "{% block user %}U{% endblock %}{% block assistant %}{}{% endblock %}"


def fill(record: dict[str, Any], kind: str = "inventory") -> Filled:
    filled = bundled(f"{kind}.jinja").fill(record)
    assert filled is not None
    return filled


def user(record: dict[str, Any]) -> str:
    return fill({"title": "T", **record}).user


def answer(record: dict[str, Any]) -> Any:
    return json.loads(fill({"title": "T", **record}).answer)


def source(user: str = "U", assistant: str = "{}") -> str:
    return f"{{% block user %}}{user}{{% endblock %}}{{% block assistant %}}{assistant}{{% endblock %}}"


def test_the_first_users_prompts() -> None:
    assert fill(COURTS).system == (
        "As an expert cataloger, you will create the FOLIO inventory JSON record."
    )
    assert fill(COURTS).user == (
        "For Vacancies in certain judgeships. Published in 1935 by [publisher not identified], "
        "Washington Subjects are Courts, Judges, United States--Officials and employees, "
        "Electronic books."
    )
    assert fill(STATISTICS).user == (
        "For Statistical applications for chemistry, manufacturing and controls (CMC) in the "
        "pharmaceutical industry /Richard K. Burdick [and others]. Published in 2017 by Springer, "
        "Cham"
    )


@pytest.mark.parametrize(
    ("publication", "told"),
    [
        ([], "For T"),
        ([{}], "For T"),
        ([{"dateOfPublication": "1999"}], "For T Published in 1999"),
        ([{"publisher": "Brill,"}], "For T Published by Brill"),
        ([{"place": "Leiden :"}], "For T Published, Leiden"),
        ([{"publisher": "Brill", "place": "Leiden"}], "For T Published by Brill, Leiden"),
        (
            [
                {"dateOfPublication": "1999-", "place": "Leiden :", "publisher": "Brill,"},
                {"place": "X"},
            ],
            "For T Published in 1999- by Brill, Leiden",
        ),
    ],
)
def test_publication(publication: list[dict[str, str]], told: str) -> None:
    assert user({"publication": publication}) == told
    expected = [
        {key: entry.get(key) for key in ("publisher", "place", "dateOfPublication", "role")}
        for entry in publication
    ]
    assert answer({"publication": publication})["publication"] == expected


def test_contributors_are_joined_and_subjects_of_both_ages_are_read() -> None:
    record = {
        "contributors": [{"name": "A, B.", "primary": True}, {"name": "C"}],
        "subjects": ["Old", {"value": "New", "authorityId": "1"}],
    }
    assert user(record) == "For T / A, B. and C Subjects are Old, New."
    assert answer(record)["contributors"] == [{"name": "A, B."}, {"name": "C"}]
    assert answer(record)["subjects"] == [{"value": "Old"}, {"value": "New"}]


def test_what_a_record_does_not_have_is_left_out_and_an_empty_list_is_kept() -> None:
    assert answer({}) == {"title": "T", "instanceTypeText": None, "modeOfIssuanceText": None}
    assert answer({"subjects": [], "publication": None})["subjects"] == []
    assert answer({"publication": None})["publication"] == []


@pytest.mark.parametrize("title", [None, "", "missing"])
def test_a_record_without_a_title_is_passed_over(title: str | None) -> None:
    record = {} if title == "missing" else {"title": title}
    assert bundled("inventory.jinja").fill(record) is None


def test_text_of_every_kind_survives() -> None:
    title = "Quotes \" and \\ and {{ 7 * 7 }}, <b>&amp; ünïcode 书 🎼\u2028 'single'"
    record = {"title": title, "subjects": [{"value": title}]}
    assert json.loads(fill(record).answer)["subjects"] == [{"value": title}]
    assert fill(record).user == f"For {title} Subjects are {title}."
    assert "\\u" not in fill({"title": "书 <b>"}).answer


def test_orders() -> None:
    line = {
        "titleOrPackage": "Dune /",
        "contributors": [{"contributor": "Herbert, Frank"}],
        "publisher": "Ace",
        "orderFormat": "Physical Resource",
        "cost": {"listUnitPrice": 29.95, "quantityPhysical": 2, "currency": "USD"},
        "fundDistribution": [{"code": "FICTION", "distributionType": "percentage", "value": 100.0}],
    }
    filled = fill({"orderType": "One-Time", "vendorText": "GOBI", "poLines": [line]}, "orders")
    assert filled.user == (
        "One-Time order to GOBI: 2 x Dune / Herbert, Frank, Ace, Physical Resource, 29.95 USD, "
        "fund FICTION."
    )
    told = json.loads(filled.answer)
    assert told["poLines"][0]["cost"]["quantityPhysical"] == 2
    assert told["poLines"][0]["cost"]["listUnitPriceElectronic"] is None
    assert bundled("orders.jinja").fill({"poLines": []}) is None


def test_an_order_line_with_next_to_nothing() -> None:
    assert fill({"poLines": [{"titleOrPackage": "X"}]}, "orders").user.startswith(
        "One-Time order: 1 x X"
    )


def test_invoices() -> None:
    line = {"description": "Atlas", "quantity": 1, "subTotal": 80.5}
    record = {"vendorInvoiceNo": "7", "currency": "EUR", "invoiceLines": [line, line]}
    assert fill(record, "invoices").user == "Invoice 7, in EUR: 1 x Atlas 80.5; 1 x Atlas 80.5."
    assert json.loads(fill(record, "invoices").answer)["invoiceDate"] is None


def test_a_field_called_like_a_method_is_the_field() -> None:
    template = Template(source("{{ record.items }} {{ record.x.keys | join }}"), "t")
    filled = template.fill({"items": "mine", "x": {"keys": ["k"]}})
    assert filled is not None
    assert filled.user == "mine k"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% block user %}U", "template t, line 1: "),
        ("{% block user %}U{% endblock %}", "has no block assistant"),
        ("{{ record.title }}", "has no block user and no block assistant"),
        ("{% block user %}{{ x | nonsense }}{% endblock %}", "No filter named 'nonsense'"),
    ],
)
def test_a_broken_template_is_refused_at_once(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        Template(text, "t")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source(assistant="{'a': 1}"), "Python literal"),
        (source(assistant="[1]"), "a list"),
        (source(assistant='{"a": 1, "a": 2}'), "given twice"),
        (source(assistant='{"a": {{ record.title }}}'), "not JSON at column"),
        (source("{{ 1 // 0 }}"), "division"),
        (source("{{ record.n + 'a' }}"), "unsupported operand"),
        (source("{% for i in range(10 ** 9) %}{% endfor %}"), "Range too big"),
        (source("{{ record.title.__class__.__mro__ }}"), None),
        (source("{{ ''.__class__.__mro__[1].__subclasses__() }}"), "unsafe|undefined"),
        (source("{% include '/etc/passwd' %}"), "no loader"),
        (source("{{ record.update({'title': 1}) }}"), "unsafe|not safely callable"),
    ],
)
def test_what_a_template_does_wrong_is_said_with_the_record(text: str, said: str | None) -> None:
    template = Template(text, "t")
    record = {"id": "r1", "title": "T x", "n": 1}
    if said is None:
        assert template.fill(record) is None
        return
    with pytest.raises(InvalidData, match=f"(?s)template t, block .*record r1: .*({said})"):
        template.fill(record)


def test_files(tmp_path: Any) -> None:
    (tmp_path / "good.jinja").write_text(MINIMAL)
    assert from_file(tmp_path / "good.jinja").fill({}) == Filled("", "U", "{}")
    with pytest.raises(NotFound, match="cannot read template"):
        from_file(tmp_path / "none.jinja")
    (tmp_path / "latin.jinja").write_bytes(b"\xe9")
    with pytest.raises(BadRequest, match="not UTF-8"):
        from_file(tmp_path / "latin.jinja")


def test_filters() -> None:
    assert each([{"a": 1, "b": 2}, "x"], "a") == [{"a": 1}, {"a": "x"}]
    assert each(None, "a") == each("text", "a") == each({"a": 1}, "a") == []
    assert [without_isbd(text) for text in ("Cham :", "Brill,", "A /", " x ", None)] == [
        "Cham", "Brill", "A", "x", "",
    ]  # fmt: skip
