"""mlx-lm's rows: chat, and plain text."""

from typing import Any

from corral.datasets.findings import Place
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_text
from corral.datasets.formats.messages import MessagesFormat
from corral.datasets.formats.turns import Dialect
from corral.datasets.rows import Row


class MLXChat(MessagesFormat):
    """`{"messages": [...], "tools": [...]}`; arguments as an object, for the chat template."""

    name = "mlx"
    title = "mlx-lm chat"
    rules = (
        '{"messages":[{"role","content"} …], "tools"?:[…]}; all keys are given to the chat template',
        "the first row decides what a file is, so every row must have messages",
        "no weights: --mask-prompt trains the last turn only, else every token is trained",
        "training wants a folder with train.jsonl and valid.jsonl, neither empty; test.jsonl may be",
    )
    dialect = Dialect(arguments_as_object=True)

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        if "messages" not in value and "completion" in value:
            prompt, completion = (
                read_text(value, "prompt", place),
                read_text(value, "completion", place),
            )
            extra = {
                key: item for key, item in value.items() if key not in ("prompt", "completion")
            }
            return (
                None
                if place.bad
                else Row("completion", prompt=prompt, completion=completion, extra=extra or None)
            )
        return self.read_chat(value, place)


class PlainText(Format):
    """`{"text": ...}`: every token is trained."""

    keys = frozenset(("text",))

    def score(self, value: dict[str, Any]) -> int:
        return 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        text = read_text(value, "text", place)
        return None if place.bad else Row("text", text=text, extra=self.extra_of(value))

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        text = adapt.as_text(row, place, self.name)
        if text is None:
            return None
        self.lose_tools(row, place)
        return self.with_extra({"text": text}, row, place)


class MLXText(PlainText):
    """mlx-lm's text rows."""

    name = "mlx-text"
    title = "mlx-lm text"
    rules = (
        '{"text":"…"}; every token is trained, the question as well',
        "chats are written as “system Q:question A:answer” and read back from it",
    )

    def score(self, value: dict[str, Any]) -> int:
        return 7 if isinstance(value.get("text"), str) and "messages" not in value else 0
