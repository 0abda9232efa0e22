"""Which tokens of a pretraining row weigh more."""

import pytest

from synthetic.encoding import deciding

PIECES = [b"how, ", b'{"how": ', b'"', b"un", b"it", b'"}', b' {"', b"how", b'": "', b"se", b"rial", b'", "', b"of", b'": ', b'[], "', b"at", b'": ', b"null", b', "', b"by", b'": [{"', b"x", b'"}]}']  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        (("how",), [[b'": "', b"se"]]),
        (("of",), [[b'": ', b'[], "']]),
        (("at",), [[b'": ', b"null"]]),
        (("by",), [[b'": [{"']]),
        (("how", "of"), [[b'": "', b"se"], [b'": ', b'[], "']]),
        (("ho", "other"), []),
        ((), []),
    ],
)
def test_what_decides_a_value_is_found_where_its_key_stands_last(
    keys: tuple[str, ...], tokens: list[list[bytes]]
) -> None:
    assert [PIECES[place] for place in deciding(PIECES, keys)] == [
        piece for value in tokens for piece in value
    ]


def test_a_value_whose_letters_share_a_token_with_the_mark_before_them() -> None:
    assert deciding([b'{"how": ', b'"se', b"rial", b'"}'], ("how",)) == [0, 1]
