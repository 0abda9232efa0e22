"""What DSPy programs do with a Corral; prints one JSON object of results by scenario.

    PYTHONPATH=tests/clients/loopback_only build/clients/dspy/bin/python tests/clients/dspy_program.py URL

Runs in the environment of its own that tests/clients/make_env.sh makes; tests/e2e/test_dspy.py runs
it and checks the results. A scenario that raises has `{"raised": …}` as its result.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import dspy

URL = sys.argv[1]
TEXT = "Recipe for Onion soup. Cook: Paul Meyer. Take onions, butter, thyme. Time: 45"
RECIPE = dspy.Signature(
    "text -> dish: str, cook: str, ingredients: list[str], minutes: int",
    "Extract the facts.",
)
FLAGS = dspy.Signature("text -> owner: str, sealed: bool, depth: float", "Extract the facts.")


def lm(name: str = "corral-tiny", **options: Any) -> dspy.LM:
    """As a user writes it: `openai/` before the name, the base URL and any key."""
    return dspy.LM(f"openai/{name}", api_base=URL, api_key="any", temperature=0, **options)


def predict(signature: Any, adapter: dspy.Adapter, text: str, **options: Any) -> dict[str, Any]:
    with dspy.context(lm=lm(**options), adapter=adapter):
        return dict(dspy.Predict(signature)(text=text))


def with_demonstration() -> dict[str, Any]:
    predictor = dspy.Predict(RECIPE)
    demo = {
        "text": "Recipe for Bean stew. Cook: Anna Berg. Take beans, salt. Time: 90",
        "dish": "Bean stew",
        "cook": "Anna Berg",
        "ingredients": ["beans", "salt"],
        "minutes": 90,
    }
    predictor.demos = [dspy.Example(**demo).with_inputs("text")]
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        return dict(predictor(text=TEXT))


def streamed() -> dict[str, Any]:
    """The pieces of one field as they come, and the prediction at the end."""

    async def run() -> dict[str, Any]:
        listener = dspy.streaming.StreamListener(signature_field_name="dish")
        program = dspy.streamify(dspy.Predict(RECIPE), stream_listeners=[listener])
        pieces: list[str] = []
        prediction: dict[str, Any] = {}
        async for item in program(text=TEXT):
            if isinstance(item, dspy.streaming.StreamResponse):
                pieces.append(item.chunk)
            elif isinstance(item, dspy.Prediction):
                prediction = dict(item)
        return {"pieces": pieces, "prediction": prediction}

    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        return asyncio.run(run())


def through_litellm() -> dict[str, Any]:
    """DSPy's other engine, chosen by any option that its own does not know."""
    options = {"extra_headers": {"x-test": "1"}}
    return predict(RECIPE, dspy.ChatAdapter(), TEXT, **options)


def embedded() -> dict[str, Any]:
    embed = dspy.Embedder("openai/corral-tiny-embed", api_base=URL, api_key="any")
    vectors = embed(["Onion soup", "Bean stew"])
    return {"count": len(vectors), "width": len(vectors[0])}


def several() -> list[str]:
    """DSPy asks for n answers by n requests."""
    return [str(answer) for answer in lm(n=2, max_tokens=5)("Hello")]


def too_long() -> Any:
    return lm(num_retries=0)("word " * 9000)


def unknown() -> Any:
    return lm("no-such", num_retries=0)("Hello")


SCENARIOS: dict[str, Callable[[], Any]] = {
    "chat_adapter": lambda: predict(RECIPE, dspy.ChatAdapter(), TEXT),
    "json_adapter": lambda: predict(RECIPE, dspy.JSONAdapter(), TEXT),
    "types": lambda: predict(
        FLAGS, dspy.ChatAdapter(), "Owner: Lindqvist; Sealed: yes; Depth: 4.5"
    ),
    # `gpt-4o` is in DSPy's table of models that hold a schema: it sends a strict json_schema.
    "json_schema": lambda: predict(RECIPE, dspy.JSONAdapter(), TEXT, name="gpt-4o"),
    "with_demonstration": with_demonstration,
    "streamed": streamed,
    "through_litellm": through_litellm,
    "embedded": embedded,
    "several": several,
    "too_long": too_long,
    "unknown": unknown,
}


def run(scenario: Callable[[], Any]) -> Any:
    try:
        return scenario()
    # Each scenario is on its own: one that fails must not hide the others.
    except Exception as error:  # noqa: BLE001
        return {"raised": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    # Else an answer from an earlier run, of other weights, would pass for one of this server.
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    print(json.dumps({name: run(scenario) for name, scenario in SCENARIOS.items()}))
