"""DSPy's other ways to fine-tune, unmodified, with OPENAI_BASE_URL alone; prints one JSON object of results by scenario.

    OPENAI_BASE_URL=URL OPENAI_API_KEY=any build/clients/dspy/bin/python tests/clients/dspy_finetune_program.py

Runs in the environment of its own that tests/clients/make_env.sh makes; tests/e2e/test_dspy_finetune.py runs it. The task is that
of examples/dspy_finetune.py.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import dspy

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
from dspy_finetune import Heading, example, same

RNG = Random("other ways")
ROWS = list({row.sentence: row for row in (example(RNG) for _ in range(40))}.values())
# Enough to see that it works; what it learns is the example's business.
QUICK = {"n_epochs": 1, "lora_rank": 8, "evaluate": False}


def program() -> Any:
    made = dspy.Predict(Heading)
    made.set_lm(dspy.LM("openai/corral-tiny", temperature=0))
    return made


def lm_finetune() -> dict[str, Any]:
    """`lm.finetune` with rows made by the adapter; the tuned LM answers."""
    rows = [
        dspy.ChatAdapter().format_finetune_data(
            signature=Heading, demos=[], inputs={"sentence": r.sentence}, outputs={"heading": r.heading}
        )
        for r in ROWS[:12]
    ]  # fmt: skip
    job = program().lm.finetune(train_data=rows, train_data_format="chat", train_kwargs=QUICK)
    tuned = job.result()
    answered = dspy.Predict(Heading)
    answered.set_lm(tuned)
    return {"model": tuned.model, "heading": answered(sentence=ROWS[20].sentence).heading}


def better_together() -> dict[str, Any]:
    """Demonstrations first, then weights."""
    teacher = program()
    teacher.set_lm(dspy.utils.DummyLM({row.sentence: {"heading": row.heading} for row in ROWS}))
    optimizer = dspy.BetterTogether(
        metric=same, p=dspy.LabeledFewShot(k=2), w=dspy.BootstrapFinetune(train_kwargs=QUICK)
    )
    best = optimizer.compile(
        program(), trainset=ROWS[:16], valset=ROWS[16:24], strategy="p -> w", optimizer_compile_args={"w": {"teacher": teacher}}
    )  # fmt: skip
    tried = {c["strategy"]: c["program"].lm.model for c in best.candidate_programs}
    return {"tried": tried, "failed": best.flag_compilation_error_occurred}


SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {
    "lm_finetune": lm_finetune,
    "better_together": better_together,
}


def run(scenario: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return scenario()
    # Each scenario is on its own: one that fails must not hide the others.
    except Exception as error:  # noqa: BLE001
        return {"raised": type(error).__name__, "message": str(error)}


def main() -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    # DSPy prints a job's events; what is printed here last is the results alone.
    print("\n" + json.dumps({name: run(scenario) for name, scenario in SCENARIOS.items()}))


if __name__ == "__main__":
    main()
