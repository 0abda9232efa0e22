"""10,000 damaged headers: the reader answers or refuses, quickly, in little memory."""

from pathlib import Path

import pytest

from tests.fakes.gguf_mutants import mutants
from tests.fakes.gguf_ordeal import ordeal

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]


def test_ten_thousand_damaged_headers(tmp_path: Path) -> None:
    outcomes = ordeal(mutants(20_261_121, 10_000, ROOT / "models"), tmp_path / "m.gguf")
    print(dict(outcomes))
    assert outcomes.total() == 10_000
    assert set(outcomes) == {"read", "refused"}
    # Damage that the reader cannot see (a letter of a token) is read; most of it is seen.
    assert outcomes["refused"] > 5_000
    assert outcomes["read"] > 500
