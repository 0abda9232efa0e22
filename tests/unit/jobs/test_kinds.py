"""Kinds: unknown ones, malformed specs, stages' names and command lines."""

import sys
from pathlib import Path

import pytest

from corral.errors import BadRequest, StartupError
from corral.jobs.kinds import Kind, Kinds, Spec, Stage, stage_argv
from corral.settings import clone_root
from corral.shelf import KINDS
from tests.fakes import jobs


class Nested(Spec):
    share: float = 0.5


class Wanted(Spec):
    model: str
    types: tuple[str, ...] = ()
    nested: Nested = Nested()


KIND = Kind("wanted", Wanted, lambda spec, settings, folder: ())


def test_a_kind_is_found_by_name() -> None:
    assert jobs.KINDS.find("script") is jobs.KIND


def test_an_unknown_kind_is_told_with_those_there_are() -> None:
    with pytest.raises(BadRequest) as told:
        Kinds({"pull": "x", "export": "y"}).find("pul")
    assert told.value.message == "unknown kind of job `pul`; there are: `export`, `pull`"
    assert told.value.param == "kind"


def test_a_kind_under_a_wrong_name_is_a_bug_that_is_told() -> None:
    with pytest.raises(StartupError, match="is called `script`, not `other`"):
        Kinds({"other": "tests.fakes.jobs"}).find("other")


@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_of_the_shelf_can_be_loaded(name: str) -> None:
    assert KINDS.find(name).name == name


@pytest.mark.parametrize(
    ("spec", "param", "said"),
    [
        ({}, "spec.model", "Field required"),
        ({"model": 1}, "spec.model", "valid string"),
        ({"model": "m", "types": ["a", 2]}, "spec.types.1", "valid string"),
        ({"model": "m", "nested": {"share": "much"}}, "spec.nested.share", "valid number"),
        ({"model": "m", "nested": {"share": float("nan")}}, "spec.nested.share", "finite"),
        (
            {"model": "m", "modle": "n"},
            "spec.modle",
            "a `wanted` spec has `model`, `types`, `nested`",
        ),
    ],
)
def test_a_malformed_spec_is_told_by_its_field(
    spec: dict[str, object], param: str, said: str
) -> None:
    with pytest.raises(BadRequest) as told:
        KIND.parse(spec)
    assert told.value.param == param
    assert said in told.value.message
    assert told.value.message.startswith(f"`{param}`: ")


@pytest.mark.parametrize("name", ["", "Convert", "a/b", "../x", "a b", "x" * 41, "1st"])
def test_a_stage_has_a_name_that_can_be_a_files(name: str) -> None:
    with pytest.raises(ValueError, match="stage name"):
        Stage(name, ())


def test_a_stages_command_line_is_this_python_and_the_script() -> None:
    root = clone_root()
    assert root is not None
    argv = stage_argv("evaluate.py", "--out", Path("x") / "y", 3)
    assert argv == (sys.executable, str(root / "scripts/evaluate.py"), "--out", "x/y", "3")
    with pytest.raises(StartupError, match=r"the stage missing\.py is not here"):
        stage_argv("missing.py")
