"""Which tokens of a pretraining row weigh more."""

import pytest

from synthetic.encoding import first_tokens

PIECES = [b"sort: ", b'"', b"un", b"it", b'"', b" or ", b'"', b"se", b"rial", b'"', b' {"how": ', b'"', b"se", b"rial", b'"}']  # fmt: skip


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (("serial",), [12]),
        (("unit", "serial"), [2, 12]),
        (("seri",), []),
        ((), []),
    ],
)
def test_the_first_token_of_a_value_is_found_where_it_stands_last(
    values: tuple[str, ...], places: list[int]
) -> None:
    assert first_tokens(PIECES, values) == places


def test_a_value_behind_its_quotation_mark_in_one_token_is_found_there() -> None:
    assert first_tokens([b'{"how": ', b'"se', b"rial", b'"}'], ("serial",)) == [1]
