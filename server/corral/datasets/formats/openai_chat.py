"""OpenAI chat fine-tuning rows (`/v1/files`, purpose fine-tune); the format that Corral trains on."""

from typing import Any

from corral.datasets.findings import Place, shown
from corral.datasets.formats.interface import read_tools
from corral.datasets.formats.messages import MessagesFormat
from corral.datasets.formats.turns import Dialect
from corral.datasets.rows import Row


class OpenAIChat(MessagesFormat):
    """`{"messages": [...], "tools": [...]}` with `weight` and `tool_calls`."""

    name = "openai"
    title = "OpenAI chat"
    rules = (
        '{"messages":[{"role","content"} …], "tools"?:[…], "parallel_tool_calls"?:true}',
        "roles: system, developer, user, assistant, tool; content is text or a list of parts",
        "an assistant turn may have tool_calls (arguments are JSON text), weight 0 (not trained) or 1",
        "every assistant turn is trained unless its weight is 0; other top-level keys are for graders",
    )
    keys = frozenset(("messages", "tools", "functions", "parallel_tool_calls"))
    dialect = Dialect(weight_key="weight")
    holds_developer = True
    needs_call_ids = True

    def score(self, value: dict[str, Any]) -> int:
        return 5 if isinstance(value.get("messages"), list) else 0

    def read(self, value: dict[str, Any], place: Place) -> Row | None:
        if len(value) == 1:
            return self.read_chat(value, place)
        parallel = value.get("parallel_tool_calls")
        if parallel is not None and not isinstance(parallel, bool):
            place.error(
                "parallel_tool_calls",
                "wrong_type",
                f"found {shown(parallel)}; must be true or false",
            )
        row = self.read_chat(value, place)
        if row is None:
            return None
        tools = row.tools
        if tools is None and value.get("functions") is not None:
            place.note("functions", "old_functions", "read as tools")
            bare = read_tools(value["functions"], place, "functions") or []
            tools = [{"type": "function", "function": function} for function in bare]
        if place.bad:
            return None
        return Row(
            "chat",
            messages=row.messages,
            tools=tools,
            parallel_tool_calls=parallel,
            extra=row.extra,
        )

    def write_parallel(self, value: dict[str, Any], flag: bool, place: Place) -> None:
        value["parallel_tool_calls"] = flag
