"""Conversation → token ids and the mask of learned tokens, by the chat template and tokenizer that will serve them.

Text is rendered by the template in models/chat_template.jinja (a test compares it with llama-server's `/apply-template`) and
tokenised by llama.cpp itself, so that training and serving see the same tokens.
"""

import json
import re
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path

import jinja2
import numpy as np

from .tasks import Example

TEMPLATE = Path(__file__).resolve().parents[2] / "models" / "chat_template.jinja"
# Content holds no control token, so an assistant turn ends at the first end marker, which is learned with it.
ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)
END = "<|im_end|>"
# Beside eighty other tokens the loss of a deciding one drowns, and the attention that it needs does not form (docs/log.md).
DECIDED = 10.0


@cache
def template() -> jinja2.Template:
    environment = jinja2.Environment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8").strip())


def render(example: Example) -> str:
    """The conversation as one text, every turn closed."""
    return template().render(
        messages=example.messages, tools=example.tools, add_generation_prompt=False
    )


def deciding(pieces: list[bytes], keys: tuple[str, ...]) -> list[int]:
    """The tokens that decide the value of each key, where it stands last: those of what follows the key up to the value's first letter, or
    up to what tells a list without members from another."""
    text, starts = b"".join(pieces), list(accumulate(map(len, pieces), initial=0))
    places = set[int]()
    for key in keys:
        found = text.rfind(f'"{key}": '.encode())
        if found >= 0:
            begin = found + len(key.encode()) + 1
            first, last = (bisect_right(starts, at) - 1 for at in (begin, begin + len('": "')))
            places.update(range(first, last + 1))
    return sorted(places)


class Encoder:
    """Tokenises with the vocabulary of one GGUF file (weights are not needed)."""

    def __init__(self, gguf: Path) -> None:
        import llama_cpp

        self.llama = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)

    def tokens(self, text: str) -> list[int]:
        return list(self.llama.tokenize(text.encode(), add_bos=False, special=True))

    def encode(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """Ids (int16, shape [n]) and weights (float32, [n]): how much the token's loss counts, 0 where it is not learned."""
        if example.text:
            ids = self.tokens(example.text + END)
            return np.array(ids, np.int16), np.array([0.0] + [1.0] * (len(ids) - 1), np.float32)
        text, ids, weights, at = render(example), list[int](), list[float](), 0
        for span in ASSISTANT.finditer(text):
            for part, learned in ((text[at : span.start()], False), (span.group(), True)):
                piece = self.tokens(part)
                ids += piece
                weights += [float(learned)] * len(piece)
            at = span.end()
        if example.decided:
            pieces = [self.llama.detokenize([id], special=True) for id in ids]
            for place in deciding(pieces, example.decided):
                weights[place] = DECIDED
        return np.array(ids, np.int16), np.array(weights, np.float32)
