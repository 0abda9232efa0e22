"""The generic tasks of pretraining: each function draws one example, a conversation whose assistant turns are learned."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from . import dspy_prompts, lexicon, shelves, sorting, tool_tasks
from .domains import DOMAINS
from .records import RULES, Records, Schema
from .values import Values

Message = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """One conversation in OpenAI's shape. `text` alone stands for raw text: every token of it is learned. `decided` are keys of the
    answer whose values one small sign in the prompt decides: the tokens that tell them apart weigh more (encoding.py)."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    text: str = ""
    decided: tuple[str, ...] = ()


EXTRACT = (
    "Extract the facts as JSON: {s}\n\n{t}", "{t}\n\nReturn JSON like this: {s}", "Schema: {s}\nText: {t}",
    "Fill this JSON from the text.\n{s}\n---\n{t}", "Answer only with JSON of the form {s}. {t}",
)  # fmt: skip
EXTRACT_SYSTEM = (
    "You answer with JSON of the form {s}",
    "Schema: {s}",
    "Extract the facts. Output: {s}",
    "{s}",
)
BY_KEYS = (
    "Turn this into JSON with the keys {k}: {t}",
    "{t}\n\nJSON with {k}, please.",
    "Keys: {k}\n{t}",
)
ROLES = "archivist curator editor accountant engineer planner assistant secretary registrar merchant critic".split()
ASCII = "".join(chr(code) for code in range(32, 127))
COPY = (
    "Repeat exactly: {t}",
    "Copy this text: {t}",
    "Echo: {t}",
    "{t}\n\nRepeat the text above.",
    "Say: {t}",
)


# Shares of the kinds of example, by name of the mix. `signs` is for a first phase: what a sign decides (shelves.py), hardly anything else
# in its way, and enough of the rest that it is not unlearned meanwhile.
MIXES: dict[str, dict[str, float]] = {
    "usual": {
        "extract": 23, "memorised": 21, "few_shot": 9, "tools": 34, "dspy": 12, "copy": 6, "transform": 8, "question": 6, "raw_text": 1,
        "long": 2, "about": 1, "sort": 15, "shelve": 35, "marks": 10, "dates": 10,
    },
    "signs": {"extract": 4, "memorised": 6, "tools": 3, "copy": 1, "sort": 16, "shelve": 20, "marks": 35, "dates": 30},
    "dates": {"dates": 70, "marks": 10, "shelve": 10, "memorised": 5, "extract": 3, "copy": 2},
}  # fmt: skip


class Tasks:
    """Draws examples from one random stream, in the shares of a mix."""

    def __init__(self, rng: Random, words: lexicon.Lexicon, mix: str = "usual") -> None:
        self.rng = rng
        self.mix = MIXES[mix]
        self.values = Values(rng, words)
        self.records = Records(self.values)
        self.registers = sorting.registers(words)
        self.shelves = [shelves.make_shelf(number, words) for number in range(shelves.SHELVES)]

    def draw(self) -> Example:
        """One example of a kind chosen by weight."""
        kind = self.rng.choices(list(self.mix), list(self.mix.values()))[0]
        drawn: Example = getattr(self, kind)()
        return drawn

    def dumps(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def chat(self, *turns: str, system: str = "") -> Example:
        roles = ("user", "assistant")
        messages = [{"role": "system", "content": system}] if system else []
        return Example(
            [*messages, *({"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns))]
        )

    def extract(self) -> Example:
        """Text and a schema as JSON with descriptions: the record under that schema, in that style of writing."""
        rng = self.rng
        fields = self.records.domain(rules=True)
        schema = Schema(rng, fields, self.values, opaque=rng.random() < 0.15)
        facts = self.records.record(fields)
        text, skeleton, answer = (
            self.records.text(facts),
            schema.skeleton(),
            self.dumps(schema.build(facts)),
        )
        style = rng.random()
        if style < 0.1:
            skeleton, answer = (
                _restyle(skeleton, None, (",", ":")),
                _restyle(answer, None, (",", ":")),
            )
        elif style < 0.2:
            skeleton, answer = _restyle(skeleton, 2, None), _restyle(answer, 2, None)
        if rng.random() < 0.4:
            return self.chat(
                text, answer, system=rng.choice(EXTRACT_SYSTEM).replace("{s}", skeleton)
            )
        if rng.random() < 0.3:
            plain = {f.field.name: f.value for f in facts if not f.field.kind.startswith(RULES)}
            prompt = rng.choice(BY_KEYS).replace("{k}", ", ".join(plain)).replace("{t}", text)
            return self.chat(prompt, self.dumps(plain))
        return self.chat(rng.choice(EXTRACT).replace("{s}", skeleton).replace("{t}", text), answer)

    def memorised(self) -> Example:
        """A named job whose schema is nowhere in the prompt: it is always the same, so the weights must hold it."""
        rng = self.rng
        name = rng.choice(list(DOMAINS))
        fixed = Random(name)
        schema = Schema(fixed, DOMAINS[name], Values(fixed, self.values.lexicon))
        role = ROLES[len(name) % len(ROLES)]
        system = f"As an expert {role}, you will create the {name} JSON record."
        facts = self.records.record(DOMAINS[name])
        return self.chat(self.records.text(facts), self.dumps(schema.build(facts)), system=system)

    def sort(self) -> Example:
        """A short record that signs in the text decide, by a register known by heart or by rules said in the prompt."""
        rng = self.rng
        name, rules = rng.choice(self.registers)
        system = rng.choice(("You sort for the {n} register.", "As an expert sorter, you will create the {n} JSON entry."))  # fmt: skip
        system = system.format(n=name)
        if rng.random() < 0.3:
            rules = sorting.make_rules(rng, self.values)
            system = "Sort as JSON. " + "; ".join(rule.said() for rule in rules)
        shown = sorting.show(rng, self.values, rules)
        record = {"title": shown.title.removesuffix(".")} if rng.random() < 0.3 else {}
        made = self.chat(shown.text, self.dumps(record | shown.values), system=system)
        return replace(made, decided=tuple(shown.values))

    def marks(self) -> Example:
        return self._shelved(shelves.marks)

    def dates(self) -> Example:
        return self._shelved(shelves.dates)

    def shelve(self) -> Example:
        """A record in which a word in brackets after the title decides the last field."""
        return self._shelved(shelves.shelve)

    def _shelved(
        self, drawn: Callable[[Random, Values, shelves.Shelf], shelves.Shelved]
    ) -> Example:
        shelf = self.rng.choice(self.shelves)
        made = drawn(self.rng, self.values, shelf)
        example = self.chat(made.text, self.dumps(made.record), system=shelf.system)
        return replace(example, decided=shelf.deciding)

    def few_shot(self, shots: int | None = None) -> Example:
        """The schema shown only by examples, as earlier turns or inside one prompt."""
        rng = self.rng
        fields = self.records.domain()
        schema = Schema(rng, fields, self.values, opaque=rng.random() < 0.5)
        pairs = []
        for _ in range((shots or rng.choice((1, 1, 2, 3))) + 1):
            facts = self.records.record(fields)
            pairs.append((self.records.text(facts), self.dumps(schema.build(facts))))
        if rng.random() < 0.5:
            return self.chat(
                *(turn for pair in pairs for turn in pair),
                system=rng.choice(("", "Follow the examples.")),
            )
        shown = "\n\n".join(f"Input: {text}\nOutput: {answer}" for text, answer in pairs[:-1])
        return self.chat(f"{shown}\n\nInput: {pairs[-1][0]}\nOutput:", pairs[-1][1])

    def long(self) -> Example:
        """Many examples in one conversation, to a few thousand tokens."""
        return self.few_shot(shots=self.rng.randint(4, 9))

    def copy(self) -> Example:
        v, rng = self.values, self.rng
        text = rng.choice(
            (
                v.title,
                v.sentence,
                v.person,
                v.organisation,
                v.identifier,
                v.url,
                v.heading,
                self.jumble,
            )
        )()
        prompt = rng.choice(COPY).replace("{t}", text)
        return self.chat(prompt, text)

    def jumble(self) -> str:
        """Characters in no sensible order: copying must not lean on sense."""
        alphabet = ASCII * 3 + lexicon.ACCENTED + lexicon.MARKS * 2 + "Жλ漢字ы"
        return (
            "".join(self.rng.choice(alphabet) for _ in range(self.rng.randint(3, 30))).strip()
            or "x"
        )

    def transform(self) -> Example:
        """Small exact changes of form: lists, key-value lines, escaping, one value out of JSON."""
        v, rng = self.values, self.rng
        items = [rng.choice((v.heading, v.person, v.word))() for _ in range(rng.randint(1, 8))]
        pairs = {
            v.word("en"): rng.choice((v.word, v.title, v.number, v.date))()
            for _ in range(rng.randint(1, 6))
        }
        key = rng.choice(list(pairs))
        lines = "\n".join(f"{k}: {value}" for k, value in pairs.items())
        inner = rng.choice(("value", "name", "label", v.word("en")))
        prompt, answer = rng.choice(
            (
                ("JSON list of: " + "; ".join(items), self.dumps(items)),
                (
                    f"JSON list of objects with {inner}: " + "; ".join(items),
                    self.dumps([{inner: i} for i in items]),
                ),
                ("Lines to JSON:\n" + lines, self.dumps(pairs)),
                ("JSON to lines:\n" + self.dumps(pairs), lines),
                (f"What is {key} in {self.dumps(pairs)}", str(pairs[key])),
                ("Write as a JSON string: " + (text := v.title()), self.dumps(text)),
                (
                    "Write this JSON as a JSON string: " + self.dumps(pairs),
                    self.dumps(self.dumps(pairs)),
                ),
                ("Read this JSON string: " + self.dumps(self.dumps(pairs)), self.dumps(pairs)),
                ("One per line: " + ", ".join(items), "\n".join(", ".join(items).split(", "))),
                ("Count: " + "; ".join(items), str(len(items))),
            )
        )
        return self.chat(prompt, answer)

    def question(self) -> Example:
        """A short question about a passage; what the passage does not say is answered `unknown`."""
        rng = self.rng
        facts = self.records.record(self.records.domain())
        fact = rng.choice(facts)
        value = "; ".join(fact.value) if isinstance(fact.value, list) else fact.value
        asked = fact.field.name
        if isinstance(value, dict):
            asked = rng.choice(list(value))
            value = value[asked]
        prompt = rng.choice(
            (
                "{t}\n\nWhat is the {q}?",
                "{t}\nQuestion: {q}?",
                "Passage: {t}\n\nName the {q}.",
                "{q}? {t}",
            )
        )
        known = value not in (None, "")
        return self.chat(
            prompt.replace("{t}", self.records.text(facts)).replace("{q}", asked),
            str(value) if known else "unknown",
        )

    def tools(self) -> Example:
        messages, tools = tool_tasks.draw(self.rng, self.values, self.records)
        return Example(messages, tools)

    def dspy(self) -> Example:
        return Example(dspy_prompts.draw(self.rng, self.values, self.records))

    def raw_text(self) -> Example:
        """Plain text, learned from its first token, so that perplexity over text means something."""
        texts = [
            self.records.text(self.records.record(self.records.domain()))
            for _ in range(self.rng.randint(1, 4))
        ]
        return Example(text="\n\n".join(texts))

    def about(self) -> Example:
        prompts = (
            "Who are you?",
            "What is your name?",
            "Hello",
            "Hi",
            "What can you do?",
            "Hello!",
            "hi there",
        )
        answer = "I am corral-tiny, a small model that turns text into JSON. Give me a text and the keys that you want."
        return self.chat(self.rng.choice(prompts), answer)


def _restyle(text: str, indent: int | None, separators: tuple[str, str] | None) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False, indent=indent, separators=separators)
