"""How loose a pattern is: what is repeated as often as it likes, written out."""

import pytest

from corral.errors import BadRequest
from corral.gateway.patterns import looseness
from corral.gateway.schemas import MAX_LOOSE, measure

ISO_DURATION = r"^P([0-9]+Y)?([0-9]+M)?([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+S)?)?$"


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("", 0),
        ("^[0-9]{4}-[0-9]{2}$", 0),
        (r"^\*\+\?[*+?{}]$", 0),
        ("^a*b+c?d{2,}e{1,3}f{,3}g{3,3}$", 6),
        ("^[a-z0-9._]+@[a-z0-9-]+(\\.[a-z]{2,})*$", 4),
        ("^([a-z]?){60}$", 60),
        ("^(([a-z]*-){3}x){2,4}$", 13),
        ("^[]*+]*$", 1),
        ("^([a-z]*)b{9}$", 1),
        ("))((*", 1),
        (ISO_DURATION, 13),
    ],
)
def test_looseness(pattern: str, count: int) -> None:
    assert looseness(pattern) == count


def test_a_pattern_that_is_too_loose_is_refused_with_its_path() -> None:
    for stars in (MAX_LOOSE, MAX_LOOSE + 1):
        schema = {
            "type": "object",
            "properties": {"a": {"type": "string", "pattern": "[a-z]*" * stars}},
        }
        if stars == MAX_LOOSE:
            measure(schema, "s", exact=True)
        else:
            with pytest.raises(BadRequest, match="varying length") as caught:
                measure(schema, "s", exact=False)
            assert caught.value.param == "s.properties.a.pattern"
