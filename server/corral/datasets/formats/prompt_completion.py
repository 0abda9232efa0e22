"""Prompt and completion as plain text: OpenAI's older rows, mlx-lm's completions, TRL's standard."""

from typing import Any

from corral.datasets.findings import Place
from corral.datasets.formats import adapt
from corral.datasets.formats.interface import Format, read_text
from corral.datasets.rows import Row


class PromptCompletion(Format):
    """`{"prompt": text, "completion": text}`."""

    name = "prompt-completion"
    title = "Prompt and completion"
    rules = (
        '{"prompt":"…", "completion":"…"}; only the completion is trained',
        "mlx-lm and Corral read the pair as one user and one assistant turn",
        "a system turn has no place of its own: it goes before the prompt, and that is reported",
    )
    keys = frozenset(("prompt", "completion"))

    def score(self, value: dict[str, Any]) -> int:
        both = isinstance(value.get("prompt"), str) and isinstance(value.get("completion"), str)
        return 8 if both else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        prompt = read_text(value, "prompt", place)
        completion = read_text(value, "completion", place)
        if place.bad:
            return None
        return Row("completion", prompt=prompt, completion=completion, extra=self.extra_of(value))

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        if row.kind == "completion":
            return self.with_extra({"prompt": row.prompt, "completion": row.completion}, row, place)
        pairs = adapt.as_pairs(row, place, self.name)
        if pairs is None:
            return None
        if len(pairs.pairs) != 1:
            place.loss(
                "messages", "many_turns", f"{self.name} holds one question and answer; row left out"
            )
            return None
        self.lose_tools(row, place)
        prompt, completion = pairs.pairs[0]
        place.note(
            "messages", "flattened", "a user and an assistant turn became prompt and completion"
        )
        if pairs.system:
            place.loss(
                "messages[0]", "folded_system", "the system turn became the start of the prompt"
            )
            prompt = f"{pairs.system}\n\n{prompt}"
        return self.with_extra({"prompt": prompt, "completion": completion}, row, place)
