"""Raise a DSPy program's metric by fine-tuning the model under it, on this machine: before, training, after.

make setup-train && make serve             # in another terminal
pip install dspy
OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=any python examples/dspy_finetune.py

The base URL must be in the environment. DSPy ignores `api_base=` when it fine-tunes: with that alone it sends your training data to
OpenAI.
"""

import os
import sys
from random import Random
from typing import Any

import dspy

TRAIN, HELD_OUT = 240, 40
FIRST = "Anna Paul Ingrid Omar Lucía Tomas Priya Henri Chidi Mei Nellie Sven Olga Karim Rosa Leon Marta Jonas Aiko Peter".split()
LAST = "Berg Meyer Lindqvist Haddad Fuentes Novak Rao Dubois Okafor Tanaka Johnson Larsen Petrov Aziz Moreno Fischer Kowalski Brandt".split()
WORDS = "harbour lantern winter garden river mirror silent copper orchard letter shadow meadow iron voyage paper island thunder glass".split()
PRESSES = (
    "Knopf Springer Brill Routledge Gallimard Suhrkamp Elsevier Wiley Anytown Northgate".split()
)


class Heading(dspy.Signature):
    """Make a catalogue heading."""

    sentence: str = dspy.InputField()
    heading: str = dspy.OutputField()


def example(rng: Random) -> dspy.Example:
    """A sentence about a book; its heading, as this library has always written them."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    title = " ".join(rng.sample(WORDS, rng.randint(2, 3))).capitalize()
    press, year = rng.choice(PRESSES), rng.randint(1900, 2026)
    form = rng.choice(("{t} by {f} {l}, {p}, {y}", "{f} {l}: {t} ({p}, {y})", "{y}, {p}: {t}, by {f} {l}"))  # fmt: skip
    sentence = form.format(t=title, f=first, l=last, p=press, y=year)
    heading = f"{title} / {first} {last} ({press}, {year})"
    return dspy.Example(sentence=sentence, heading=heading).with_inputs("sentence")


def same(wanted: dspy.Example, found: Any, trace: Any = None) -> bool:
    """The metric: the heading is right to the letter."""
    return bool(wanted.heading == found.heading)


def main() -> None:
    if not os.environ.get("OPENAI_BASE_URL"):
        sys.exit("set OPENAI_BASE_URL=http://127.0.0.1:8000/v1, or DSPy trains at OpenAI")
    # DSPy keeps answers on disk; after a training they would be those of yesterday's model.
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    rng = Random(1)
    rows = list({row.sentence: row for row in (example(rng) for _ in range(2 * TRAIN))}.values())
    train, held_out = rows[:TRAIN], rows[TRAIN : TRAIN + HELD_OUT]
    evaluate = dspy.Evaluate(devset=held_out, metric=same, num_threads=4)

    program = dspy.Predict(Heading)
    program.set_lm(dspy.LM("openai/corral-tiny", temperature=0))
    print(f"before: {evaluate(program).score:.0f}%")

    # The answers are known, so they teach. With no answers at hand the teacher is a larger model.
    teacher = program.deepcopy()
    teacher.set_lm(dspy.utils.DummyLM({row.sentence: {"heading": row.heading} for row in train}))
    optimizer = dspy.BootstrapFinetune(metric=same, train_kwargs={"n_epochs": 3, "batch_size": 4})
    tuned = optimizer.compile(program, trainset=train, teacher=teacher)
    print(f"model: {tuned.lm.model}")
    print(f"after: {evaluate(tuned).score:.0f}%")


if __name__ == "__main__":
    main()
