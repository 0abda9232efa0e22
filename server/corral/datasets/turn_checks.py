"""What is wrong inside one row that its format allows: turn order, empty answers, loose tool calls."""

from functools import lru_cache
from itertools import pairwise

from corral.datasets.answers import check_answers
from corral.datasets.findings import Place
from corral.datasets.formats.interface import tool_name
from corral.datasets.rows import Message, PlainTurns, Row, text_of, trained

Problem = tuple[int, str, str]


def check_row(row: Row, place: Place) -> None:
    """Report all that makes the row useless (errors) or doubtful (warnings)."""
    if type(row.messages) is PlainTurns and _nothing_to_say(row.messages):
        return
    check_answers(row, place)
    if row.kind == "text":
        _not_empty(row.text, "text", place)
    elif row.kind == "completion":
        _not_empty(row.completion, "completion", place)
        if not row.prompt.strip():
            place.warning(
                "prompt", "empty_prompt", "empty; the model would learn to answer nothing"
            )
    else:
        _check_turns(row, place)


def _nothing_to_say(turns: tuple[Message, ...]) -> bool:
    """Whether plain turns surely have nothing to report, which is what most rows are."""
    for turn in turns:
        content = turn.content
        if not content or not isinstance(content, str):
            return False
        # It may be blank, or JSON, or a Python literal.
        if content[0] in "{[" or content[0].isspace():
            return False
    roles = tuple([turn.role for turn in turns])
    return "assistant" in roles and not order_problems(roles, False)


def _not_empty(text: str, field: str, place: Place) -> None:
    if not text.strip():
        place.error(field, "empty_answer", "empty; there is nothing to learn")


def _check_turns(row: Row, place: Place) -> None:
    turns = row.messages
    roles = tuple([turn.role for turn in turns])
    for number, code, message in order_problems(roles, row.kind == "preference"):
        place.warning(f"messages[{number}].role", code, message)
    if row.kind == "chat" and "assistant" not in roles:
        if row.extra:
            place.warning("messages", "no_answer", "no assistant turn; good for graders only")
        else:
            place.error("messages", "no_answer", "no assistant turn; there is nothing to learn")
    elif row.kind == "chat" and not any(map(trained, turns)):
        place.error(
            "messages", "no_answer", "every assistant turn has weight 0; there is nothing to learn"
        )
    for number, turn in enumerate(turns):
        _check_turn(turn, f"messages[{number}]", place)
    for field, side in (("chosen", row.chosen), ("rejected", row.rejected)):
        for number, turn in enumerate(side):
            _check_turn(turn, f"{field}[{number}]", place)
    if row.kind == "preference" and row.chosen == row.rejected:
        place.error("rejected", "same_answer", "the same as the chosen answer; nothing to prefer")
    if "tool" in roles or any(turn.tool_calls for turn in turns):
        _check_tools(row, place)


def _check_turn(turn: Message, here: str, place: Place) -> None:
    content = turn.content
    if (content.strip() if type(content) is str else content) or turn.tool_calls:
        return
    if turn.role == "assistant":
        if trained(turn) and "refusal" not in (turn.extra or {}):
            place.error(f"{here}.content", "empty_answer", "empty; there is nothing to learn")
    elif turn.role == "user":
        place.warning(f"{here}.content", "empty_prompt", "an empty user turn")


@lru_cache(maxsize=4096)
def order_problems(roles: tuple[str, ...], preference: bool) -> tuple[Problem, ...]:
    """What is odd about an order of roles. Cached: a file has few different orders."""
    problems: list[Problem] = []
    talk = [
        (number, role) for number, role in enumerate(roles) if role not in ("system", "developer")
    ]
    for number, role in enumerate(roles):
        if role in ("system", "developer") and talk and number > talk[0][0]:
            problems.append(
                (
                    number,
                    "system_position",
                    "a system turn after the talk began; many templates refuse it",
                )
            )
    if talk and talk[0][1] != "user":
        problems.append(
            (talk[0][0], "turn_order", f"the talk begins with {talk[0][1]!r}; user begins it")
        )
    for (_, before), (number, role) in pairwise(talk):
        if role == before and role != "tool":
            problems.append(
                (number, "turn_order", f"two {role} turns in a row; many templates refuse it")
            )
    if talk and talk[-1][1] != "assistant" and "assistant" in roles and not preference:
        problems.append(
            (talk[-1][0], "last_turn", f"ends with {talk[-1][1]!r}; an assistant turn ends a row")
        )
    if talk and preference and talk[-1][1] == "assistant":
        problems.append(
            (talk[-1][0], "last_turn", "the prompt ends with an assistant turn; user ends it")
        )
    return tuple(problems)


def _check_tools(row: Row, place: Place) -> None:
    known = {tool_name(tool) for tool in row.tools or ()}
    open_calls: list[str | None] = []
    called = False
    for number, turn in enumerate(row.messages):
        here = f"messages[{number}]"
        if turn.role == "tool":
            _check_result(turn, open_calls, called, here, place)
            continue
        if open_calls:
            place.warning(
                here, "call_unanswered", f"{len(open_calls)} tool calls before it have no result"
            )
            open_calls.clear()
        for index, call in enumerate(turn.tool_calls):
            called = True
            open_calls.append(call.id)
            if call.name not in known:
                names = ", ".join(sorted(known)) or "none"
                place.warning(
                    f"{here}.tool_calls[{index}].function.name",
                    "unknown_tool",
                    f"calls {call.name!r}; the row's tools: {names}",
                )


def _check_result(
    turn: Message, open_calls: list[str | None], called: bool, here: str, place: Place
) -> None:
    if not called:
        place.error(here, "tool_without_call", "a tool result before any tool call")
    elif turn.tool_call_id is None:
        if open_calls:
            open_calls.pop(0)
    elif turn.tool_call_id in open_calls:
        open_calls.remove(turn.tool_call_id)
    elif None not in open_calls:
        asked = ", ".join(repr(id) for id in open_calls) or "none"
        place.error(
            f"{here}.tool_call_id",
            "unknown_call",
            f"found {turn.tool_call_id!r}; calls without a result: {asked}",
        )


def length_in_bytes(row: Row) -> int:
    """At least as many bytes as the row has tokens of text: what a cheap length test needs."""
    total = len(row.prompt.encode()) + len(row.completion.encode()) + len(row.text.encode())
    for turn in (*row.messages, *row.chosen, *row.rejected):
        total += len(text_of(turn.content).encode())
        total += sum(len(call.arguments.encode()) + len(call.name) for call in turn.tool_calls)
    return total
