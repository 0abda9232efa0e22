"""A client's own grammar passes, unless reading it would end llama-server or fill its memory."""

import time
from typing import Any

import pytest

from corral.caller import ANYBODY, Caller
from corral.errors import BadRequest, PermissionDenied
from corral.gateway.compat import reconcile
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
    # It hangs an instance. So does much that looks harmless: who may send grammars is the setting's affair.
    'root ::= "a" root "b" | "a" root "c" | "x"',
    """root ::= "{" ws pair ("," ws pair){0,20} "}"
pair ::= string ws ":" ws (string | number | list) ws
list ::= "[" ws (string (ws "," ws string)*)? ws "]"
string ::= "\\"" [^"\\\\]* "\\""
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,4})?
ws ::= | " " | "\\n" [ \\t]{0,20}""",
]
# Refused to everybody: they end llama-server or fill its memory.
BAD: list[Any] = [
    'root ::= "a"{5,2}',
    'root ::= ("a" | "b"){ 5 , 2 }',
    'root ::= ("a"{5,\n2})',
    'root ::= ("a"{5,# none\n2})',
    'root ::= "a"{5,0000000000002}',
    'root ::= "a"{5,' + "0" * 5000 + "2}",
    'root ::= <"> "a"{5,2} "b"',
    'root ::= "\\"" "a"{5,2}',
    'root ::= ["] [a]{5,2} ["]',
    'root ::= # "\n"a"{5,2}',
    "root ::= " + "(" * 201 + '"a"' + ")" * 201,
    "root ::= " + "(" * 60_000,
    "root ::= " + "[[]" * 20_000 + "(" * 201,
    "#" * 65_537,
    5,
    ["root"],
]
# Long to look through for whoever looks badly.
SLOW = ("[", '"', "{0", "<", "{ 0,", "(a)", '["')


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


@pytest.mark.parametrize("part", SLOW)
def test_looking_takes_no_long_time(part: str) -> None:
    began = time.process_time()
    ask((part * 65_536)[:65_536])
    assert time.process_time() - began < 1


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
