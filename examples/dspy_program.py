"""Corral under a DSPy 3 program: a typed signature, a demonstration, the prediction as it streams.

make serve                                 # in another terminal
pip install dspy
python examples/dspy_program.py            # or with another base URL as its argument
"""

import asyncio
import sys

import dspy

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
RECIPE = "Recipe for Onion soup. Cook: Paul Meyer. Take onions, butter, thyme. Time: 45"


class Recipe(dspy.Signature):
    """Extract the facts."""

    text: str = dspy.InputField()
    dish: str = dspy.OutputField()
    cook: str = dspy.OutputField()
    ingredients: list[str] = dspy.OutputField()
    minutes: int = dspy.OutputField()


def show(prediction: dspy.Prediction) -> None:
    print(
        f"{prediction.dish!r} by {prediction.cook!r}, {prediction.minutes + 5} minutes with washing up"
    )
    print("ingredients:", prediction.ingredients)


async def stream(program: dspy.Module) -> None:
    """The field `dish` piece by piece, then the whole prediction."""
    listener = dspy.streaming.StreamListener(signature_field_name="dish")
    async for item in dspy.streamify(program, stream_listeners=[listener])(text=RECIPE):
        if isinstance(item, dspy.streaming.StreamResponse):
            print(item.chunk, end="|", flush=True)
        elif isinstance(item, dspy.Prediction):
            print()
            show(item)


def main() -> None:
    # Both parts matter: without `openai/` DSPy does not know whom to ask, and without `api_base`
    # it asks api.openai.com. DSPy wants some key; Corral asks for one only where keys were made.
    lm = dspy.LM("openai/corral-tiny", api_base=URL, api_key="any", temperature=0)
    # DSPy keeps answers on disk: while you try models, you would see those of yesterday's.
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(lm=lm)
    program = dspy.Predict(Recipe)
    show(program(text=RECIPE))
    asyncio.run(stream(program))


if __name__ == "__main__":
    main()
