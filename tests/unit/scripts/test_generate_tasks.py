"""Rows of every kind of the base model's tasks, as files to train or to evaluate on."""

from random import Random

import pytest

from generate_tasks import KINDS, chat_row
from synthetic.tasks import Tasks
from tests.unit.scripts.test_tasks import LEXICON


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_each_kind_is_a_conversation_with_an_answer(kind: str) -> None:
    row = chat_row(getattr(Tasks(Random(kind), LEXICON), kind)())
    assert row["messages"][-1]["role"] == "assistant"  # type: ignore[index]


def test_the_kinds_that_pretraining_learns_last_are_there() -> None:
    assert {"marks", "shelve", "dates", "sort"} < set(KINDS)
    assert "raw_text" not in KINDS
