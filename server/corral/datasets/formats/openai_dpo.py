"""OpenAI direct preference optimisation rows."""

from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats.interface import keys_found, read_tools, wrapped_tools
from corral.datasets.formats.messages import MessagesFormat
from corral.datasets.formats.turns import Dialect, read_turns
from corral.datasets.rows import Message, Row

_SIDES = (
    ("preferred_output", "preferred_completion"),
    ("non_preferred_output", "non_preferred_completion"),
)


class OpenAIDPO(MessagesFormat):
    """`{"input": {"messages"}, "preferred_output": [turn], "non_preferred_output": [turn]}`."""

    name = "openai-dpo"
    title = "OpenAI DPO"
    rules = (
        '{"input":{"messages":[…], "tools"?, "parallel_tool_calls"?},',
        ' "preferred_output":[assistant turn], "non_preferred_output":[assistant turn]}',
        "preferred_completion and non_preferred_completion are read as well",
    )
    keys = frozenset(("input", *_SIDES[0], *_SIDES[1]))
    dialect = Dialect(weight_key=None)
    holds_developer = True
    needs_call_ids = True

    def score(self, value: dict[str, Any]) -> int:
        return (
            9
            if isinstance(value.get("input"), dict) and any(name in value for name in _SIDES[0])
            else 0
        )

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        asked = value.get("input")
        if not isinstance(asked, dict):
            place.error(
                "input", "missing_field", f'found {shown(asked)}; must be {{"messages":[…]}}'
            )
            return None
        turns = read_turns(asked.get("messages"), place, "input.messages")
        tools = read_tools(asked.get("tools"), place, "input.tools")
        for key in asked.keys() - {"messages", "tools", "parallel_tool_calls"}:
            place.warning(f"input.{key}", "lost_key", f"input has no key {key!r}; not kept")
        chosen, rejected = (self._side(value, names, place) for names in _SIDES)
        parallel = asked.get("parallel_tool_calls")
        if place.bad:
            return None
        return Row(
            "preference",
            messages=turns,
            chosen=chosen,
            rejected=rejected,
            tools=tools,
            parallel_tool_calls=parallel if isinstance(parallel, bool) else None,
            extra=self.extra_of(value),
        )

    def _side(
        self, value: dict[str, Any], names: tuple[str, str], place: Place
    ) -> tuple[Message, ...]:
        name = next((name for name in names if name in value), None)
        if name is None:
            place.error(names[0], "missing_field", f"missing; found {keys_found(value)}")
            return ()
        turns = read_turns(value[name], place, name)
        if turns and turns[-1].role != "assistant":
            place.error(
                name, "bad_role", f"found role {turns[-1].role!r}; must end with an assistant turn"
            )
        return turns

    def write(self, row: Row, place: Place) -> dict[str, Any] | None:
        if row.kind != "preference":
            place.loss(
                "",
                "no_preference",
                "has one answer; openai-dpo needs a chosen and a rejected one; row left out",
            )
            return None
        asked: dict[str, Any] = {"messages": self.turns(row.messages, place)}
        if row.tools is not None:
            asked["tools"] = wrapped_tools(row.tools, place)
        if row.parallel_tool_calls is not None:
            asked["parallel_tool_calls"] = row.parallel_tool_calls
        value = {
            "input": asked,
            "preferred_output": self.turns(row.chosen, place),
            "non_preferred_output": self.turns(row.rejected, place),
        }
        return self.with_extra(value, row, place)
