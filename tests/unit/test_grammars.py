"""A client's own grammar passes, unless reading or following it would harm llama-server."""

import time
from typing import Any

import pytest

from corral.caller import ANYBODY, Caller
from corral.errors import BadRequest, PermissionDenied
from corral.gateway.compat import reconcile
from corral.gateway.grammar_cost import steps as count
from corral.gateway.grammar_cost import tokens
from corral.gateway.grammars import lets
from corral.gateway.structured import form_of

GOOD = [
    'root ::= "a"{2,5} [0-9]{3} ("b" | "c")+',
    'root ::= "{5,2}" [{5,2}] # {5,2} ((((',
    'root ::= "\\"(" item{0,} item{4}\nitem ::= [^"\\\\(]',
    "root ::= " + "(" * 200 + '"a"' + ")" * 200,
    "root ::= " + '("a") ' * 1000,
    "root ::= " + " | ".join(f'"Category {number}"' for number in range(700)),
    "root ::= [a-z ]{1,2000}",
    'root ::= (\n  "a" # one\n  | line+\n)\nline ::= [^\\n]* "\\n"',
    'root ::= <think> !<[7]>* "."',
    """root ::= "{" ws pair ("," ws pair){0,20} "}"
pair ::= string ws ":" ws (string | number | list) ws
list ::= "[" ws (string (ws "," ws string)*)? ws "]"
string ::= "\\"" [^"\\\\]* "\\""
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,4})?
ws ::= | " " | "\\n" [ \\t]{0,20}""",
]
# Refused to everybody: they end llama-server or fill its memory, or it cannot read them.
BAD: list[Any] = [
    'root ::= "a"{5,2}',
    'root ::= ("a" | "b"){ 5 , 2 }',
    'root ::= ("a"{5,\n2})',
    'root ::= ("a"{5,# none\n2})',
    'root ::= "a"{5,0000000000002}',
    "root ::= " + "(" * 201 + '"a"' + ")" * 201,
    "root ::= " + "(" * 60_000,
    "#" * 65_537,
    5,
    ["root"],
    'root ::= "a',
    "root ::= _",
]
# Each multiplies beyond what llama-server can follow.
HANGS = {
    "rules that name the next one twice": "root ::= a0\n"
    + "\n".join(f"a{n} ::= a{n + 1} a{n + 1}" for n in range(18))
    + '\na18 ::= "x"?',
    "alternatives that double": "root ::= a0\n"
    + "\n".join(f"a{n} ::= a{n + 1} | a{n + 1}" for n in range(32))
    + '\na32 ::= "x"',
    "the same in a rule that nobody names": 'root ::= "x"\n'
    + "\n".join(f"a{n} ::= a{n + 1} | a{n + 1}" for n in range(32))
    + '\na32 ::= "x"',
    "rules that double nothing": "root ::= a0\n"
    + "\n".join(f"a{n} ::= a{n + 1} a{n + 1}" for n in range(30))
    + '\na30 ::= ""',
    "a thousand that may be left out": "root ::= " + '"a"? ' * 1000,
    "repetitions that multiply": 'root ::= ("a"{0,60}){0,60}',
}
UNREADABLE = {
    "no such rule": "root ::= a",
    "two of one name": 'root ::= a\na ::= "x"\na ::= "y"',
    "no rule": '"a"',
    "open bracket": 'root ::= ("a"',
    "open brace": 'root ::= "a"{2',
    "nothing to repeat": "root ::= *",
    "no number": 'root ::= "a"{x}',
}


def steps(grammar: str) -> int:
    return count(tokens(grammar)) or 0


def ask(grammar: Any, *, allowed: bool = True, **more: Any) -> None:
    body = {"prompt": "x", "grammar": grammar, **more}
    reconcile(body)
    assert form_of(body, "openai", chat=False, grammar_allowed=allowed) is None


@pytest.mark.parametrize("grammar", GOOD, ids=range(len(GOOD)))
def test_a_grammar_passes(grammar: str) -> None:
    ask(grammar)


@pytest.mark.parametrize("grammar", BAD, ids=range(len(BAD)))
def test_a_harmful_one_is_refused_at_once(grammar: Any) -> None:
    began = time.perf_counter()
    with pytest.raises(BadRequest) as caught:
        ask(grammar)
    assert caught.value.param == "grammar"
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("name", HANGS | UNREADABLE)
def test_what_multiplies_or_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="grammar") as caught:
        ask((HANGS | UNREADABLE)[name])
    assert caught.value.param == "grammar"


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= a0\n" + "\n".join(f"a{n} ::= a{n + 1}" for n in range(1200)) + '\na1200 ::= "x"',
        "root ::= " + '"x"{2000}' * 1300,
        "root ::= " + "[x]" * 5400,
        "root ::= " + '""? ' * 4000,
        "\n".join(f'r{n} ::= "x"' for n in range(1100)),
    ],
    ids=range(5),
)
def test_counting_itself_takes_no_long_time(grammar: str) -> None:
    began = time.process_time()
    assert steps(grammar) > 0
    assert time.process_time() - began < 1


def test_steps_are_counted_by_hand_the_same() -> None:
    # Each of the three leads to the next, two of them also to themselves, over a rule with two ways.
    assert steps('root ::= "abc"') == 2 + 2
    assert steps('root ::= "ab" | "c"') == 1 + 4
    assert steps("root ::= [a] [b] [c]") == 2 + 2
    assert steps("root ::= [a]*") == 4 + 5
    assert steps('root ::= "a"? "b"') < steps('root ::= "a"? "a"? "b"')


def test_a_recursive_grammar_cannot_be_counted_and_passes() -> None:
    for grammar in (
        'root ::= "a" root "b" | "x"',
        'root ::= value\nvalue ::= "[" (value ("," value)*)? "]" | [0-9]+',
    ):
        assert count(tokens(grammar)) is None
        ask(grammar)


def test_whom_the_setting_lets_send_one() -> None:
    some = Caller("key_a", "a", frozenset({"inference"}))
    found = {
        name: (lets(name, some), lets(name, ANYBODY)) for name in ("admin", "everybody", "nobody")
    }
    assert found == {"admin": (False, True), "everybody": (True, True), "nobody": (False, False)}


@pytest.mark.parametrize("field", ["grammar", "grammar_triggers"])
def test_others_are_told_what_to_use_instead(field: str) -> None:
    with pytest.raises(PermissionDenied, match="JSON schema") as caught:
        form_of({field: 'root ::= "a"'}, "openai", chat=False, grammar_allowed=False)
    assert (caught.value.param, caught.value.code) == (field, "grammar_not_allowed")
    ask("", allowed=False)
