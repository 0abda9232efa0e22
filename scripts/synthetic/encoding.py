"""Conversation → token ids and the mask of learned tokens, by the chat template and tokenizer that will serve them.

Text is rendered by the template in models/chat_template.jinja (a test compares it with llama-server's `/apply-template`) and
tokenised by llama.cpp itself, so that training and serving see the same tokens.
"""

import json
import re
from functools import cache
from pathlib import Path

import jinja2
import llama_cpp
import numpy as np

from .tasks import Example

TEMPLATE = Path(__file__).resolve().parents[2] / "models" / "chat_template.jinja"
# Content holds no control token, so an assistant turn ends at the first end marker, which is learned with it.
ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)
END = "<|im_end|>"


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


class Encoder:
    """Tokenises with the vocabulary of one GGUF file (weights are not needed)."""

    def __init__(self, gguf: Path) -> None:
        self.llama = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)

    def tokens(self, text: str) -> list[int]:
        return list(self.llama.tokenize(text.encode(), add_bos=False, special=True))

    def encode(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """Ids (int16, shape [n]) and mask (bool, [n]): True where the token is learned from those before it."""
        if example.text:
            ids = self.tokens(example.text + END)
            return np.array(ids, np.int16), np.array([False] + [True] * (len(ids) - 1))
        text, ids, mask, at = render(example), list[int](), list[bool](), 0
        for span in ASSISTANT.finditer(text):
            for part, learned in ((text[at : span.start()], False), (span.group(), True)):
                piece = self.tokens(part)
                ids += piece
                mask += [learned] * len(piece)
            at = span.end()
        return np.array(ids, np.int16), np.array(mask)
