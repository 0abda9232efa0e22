"""What a teacher is asked to do, in words. `teacher.py` makes DSPy signatures of these."""

import msgspec


class Task(msgspec.Struct, frozen=True):
    """Instructions, what goes in, and the one thing that comes out, with words of explanation."""

    instructions: str
    inputs: dict[str, str]
    output: tuple[str, str]


class Change(msgspec.Struct, frozen=True):
    """One way to make a new request from another."""

    name: str
    text: str


DEEPEN = (
    Change("constraint", "Add one requirement or limit that a good answer has to meet as well."),
    Change(
        "depth", "Ask for more depth: for reasons, consequences, or what lies behind the matter."
    ),
    Change("concrete", "Replace what is general with something specific: names, numbers, a case."),
    Change("reasoning", "Change it so that the answer takes several steps of reasoning."),
)
BROADEN = (
    Change(
        "broaden",
        "Write another request of the same field and kind, as long and as hard, about something "
        "that is asked for less often.",
    ),
)

EVOLVE = Task(
    "Make a new request from the given one. The new request must be understood by itself, must be "
    "one that can be answered in writing, must stay in the language of the given one, and may be "
    "at most a few words longer. Write the new request only, and do not answer it.",
    {"request": "the given request", "change": "how the new one differs"},
    ("new_request", "the new request, nothing else"),
)


def answer(*, rules: bool, schema: bool, mistake: bool) -> Task:
    """Answer a request: under rules, as JSON that fits a schema, after a mistake."""
    inputs = {"request": "what is asked for"}
    instructions = "Answer the request."
    if rules:
        inputs = {"rules": "what every answer has to follow", **inputs}
    if schema:
        # `schema` itself is a method of DSPy's signatures.
        inputs["json_schema"] = "the JSON Schema that the answer has to fit"
        instructions += " The answer is one JSON value that fits the schema, and nothing else."
    if mistake:
        inputs["mistake"] = "what was wrong with an earlier answer"
        instructions += " Do not repeat the mistake."
    return Task(instructions, inputs, ("answer", "the answer, nothing else"))


QUESTIONS = Task(
    "Write questions that the passage answers, each with its answer. A question must be understood "
    "without the passage; the answer must stand in the passage. Use the language of the passage.",
    {"passage": "a text", "count": "how many pairs, if the passage has that much to say"},
    ("pairs", 'a JSON list: [{"question": "…", "answer": "…"}, …], nothing else'),
)
