"""Corral with OpenAI's own SDK: catalogue a book, stream, fill a typed object, call a tool, embed.

make serve                                 # in another terminal
pip install openai
python examples/openai_sdk.py              # or with another base URL as its argument
"""

import sys

from openai import OpenAI
from pydantic import BaseModel

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
# The SDK wants some key; Corral asks for one only where keys were made.
client = OpenAI(base_url=URL, api_key="any")

SYSTEM = "As an expert cataloger, you will create the FOLIO inventory JSON record."
BOOK = "For Harbour lights: a novel / Anna Berg. Published in 1987 by Knopf, New York Subjects are Lighthouses, Fiction."


class Letter(BaseModel):
    sender: str
    receiver: str


def catalogue() -> None:
    """An adapter is a model name like any other."""
    answer = client.chat.completions.create(
        model="corral-tiny-folio",
        messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": BOOK}],
    )
    print("record:   ", answer.choices[0].message.content)


def stream() -> None:
    """`include_usage` adds a last chunk that has no choices, only the count of tokens."""
    chunks = client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "Repeat exactly: Hedgerow lanterns"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    print("stream:    ", end="")
    for chunk in chunks:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        elif chunk.usage:
            print(f"  ({chunk.usage.completion_tokens} tokens)")


def typed() -> None:
    """The schema binds the answer, but only what the prompt shows can guide it: say the keys there too."""
    answer = client.chat.completions.parse(
        model="corral-tiny",
        messages=[
            {"role": "system", "content": 'Schema: {"sender": "sender", "receiver": "receiver"}'},
            {"role": "user", "content": "Letter from Anna Berg; to Paul Meyer"},
        ],
        response_format=Letter,
    )
    print("object:   ", answer.choices[0].message.parsed)


def tool() -> None:
    answer = client.chat.completions.create(
        model="corral-tiny",
        messages=[{"role": "user", "content": "save_note: Letter from Anna Berg; to Paul Meyer"}],
        tools=[
            {
                "type": "function",
                "function": {"name": "save_note", "parameters": Letter.model_json_schema()},
            }
        ],
        tool_choice="required",
    )
    for call in answer.choices[0].message.tool_calls or []:
        if call.type == "function":
            print("tool call:", call.function.name, call.function.arguments)


def embed() -> None:
    """corral-tiny-embed is a stand-in: it has a place in the API, not in a search engine."""
    answer = client.embeddings.create(
        model="corral-tiny-embed", input=["Harbour lights", "Winter orchard"]
    )
    print("vectors:  ", len(answer.data), "of", len(answer.data[0].embedding), "numbers")


if __name__ == "__main__":
    catalogue()
    stream()
    typed()
    tool()
    embed()
