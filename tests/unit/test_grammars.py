"""A client's own grammar passes, unless reading it would harm llama-server."""

import time
from typing import Any

import pytest

from corral.errors import BadRequest
from corral.gateway.compat import reconcile
from corral.gateway.structured import form_of

GOOD = [
    'root ::= "a"{2,5} [0-9]{3} ("b" | "c")+',
    'root ::= "{5,2}" [{5,2}] # {5,2} ((((',
    'root ::= "\\"(" item{0,} item{4}\nitem ::= [^"\\\\(]',
    "root ::= " + "(" * 200 + '"a"' + ")" * 200,
    "root ::= " + '("a") ' * 1000,
]
BAD: list[Any] = [
    'root ::= "a"{5,2}',
    'root ::= ("a" | "b"){ 5 , 2 }',
    "root ::= " + "(" * 201 + '"a"' + ")" * 201,
    "root ::= " + "(" * 60_000,
    "#" * 65_537,
    5,
    ["root"],
]


def ask(grammar: Any) -> None:
    body = {"prompt": "x", "grammar": grammar}
    reconcile(body)
    assert form_of(body, "openai", chat=False) is None


@pytest.mark.parametrize("grammar", GOOD)
def test_a_grammar_passes(grammar: str) -> None:
    ask(grammar)


@pytest.mark.parametrize("grammar", BAD, ids=range(len(BAD)))
def test_a_harmful_one_is_refused_at_once(grammar: Any) -> None:
    began = time.perf_counter()
    with pytest.raises(BadRequest) as caught:
        ask(grammar)
    assert caught.value.param == "grammar"
    assert time.perf_counter() - began < 1
