"""The error tree: every class drawn, every class whole."""

from collections.abc import Iterator

import pytest

from corral import errors
from corral.errors import Conflict, CorralError, ModelNotFound


def tree(root: type[CorralError]) -> Iterator[type[CorralError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# Other modules may add classes of their own below these; which of them are imported here is chance.
OWN = [kind for kind in tree(CorralError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_every_error_has_a_row_a_status_and_a_code(kind: type[CorralError]) -> None:
    assert errors.__doc__ is not None
    rows = [line.split() for line in errors.__doc__.splitlines()]
    assert any(kind.__name__ in row and str(kind.status) in row for row in rows)
    assert kind.__doc__
    assert 400 <= kind.status <= 599
    assert kind.type
    assert kind.default_code
    assert kind.exit_code > 0


def test_the_envelope_has_four_fields_always() -> None:
    error = ModelNotFound("no `x`", param="model")
    assert error.body() == {
        "error": {
            "message": "no `x`",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert CorralError("bug").body()["error"]["param"] is None


def test_a_code_of_its_own_wins() -> None:
    assert CorralError("x", code="special").code == "special"


def test_a_conflict_tells_sdks_not_to_retry() -> None:
    assert Conflict("x").headers["x-should-retry"] == "false"
