"""Whether tokenizer and chat template came through a conversion: both sides on the same texts.

Compared are the ids that Hugging Face's tokenizer gives, with the ids of llama.cpp for the GGUF; and
the text of two conversations, as each side's chat template renders it.

Some tokenizers of transformers cut role markers into pieces that tokenizer.model, and so llama.cpp,
keeps whole. What is served is then what tokenizer.model says: such a text is no difference as long as
llama.cpp's tokens are exactly those.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Encode = Callable[[str], list[int]]
Render = Callable[[list[dict[str, Any]]], str]

TEXTS = (
    "Hello, world!",
    "The quick brown fox jumps over 12 lazy dogs; 3.14159, -7, 1,000,000 and 0x1F.",
    " a leading space",
    "two  spaces,   three, and a trailing one ",
    "\n\nblank lines\n\n\nand a\ttab\r\n",
    "don't, we'll, I'm, they've: it's",
    "Größe, naïve, Łódź, žluťoučký kůň, Ærøskøbing, İstanbul",
    "Привет, мир. Ελληνικά. עברית. العربية، مرحبا، ورق. हिन्दी। ภาษาไทย",
    "日本語の文章。中文,没有空格。한국어 문장.",
    "🙂🎉 👩‍👩‍👧‍👦 🇫🇮 e\u0301 (e + ´) ﬁ ½ x² ∑ ≠ →",
    '{"title": "A \\"quoted\\" word", "tags": ["a", "b"], "year": null}',
    "def f(x):\n    return {'a': [x ** 2 for _ in range(3)]}\n",
    "<|im_start|>user\nmarkers in a text<|im_end|>\n",
    "<s>[INST] others </s> <unk> <pad> <|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u00a0no-break\u200bzero-width\u2028line",
    "",
)
CHATS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "What is a shelf mark?"}],
    [
        {"role": "user", "content": "Größe? 🙂"},
        {"role": "assistant", "content": "Ein Wort."},
        {"role": "user", "content": "  and now?\n"},
    ],
)


@dataclass(frozen=True)
class Difference:
    """The first text that both sides see differently. For a template `ids` are empty."""

    what: str
    text: str
    theirs: Sequence[int]
    ours: Sequence[int]

    def __str__(self) -> str:
        if not self.theirs and not self.ours:
            return f"{self.what}: {self.text}"
        at = first_difference(self.theirs, self.ours)
        return (
            f"{self.what} {self.text!r}: from token {at} on Hugging Face has "
            f"{list(self.theirs[at : at + 8])}, llama.cpp {list(self.ours[at : at + 8])}"
        )


def first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """The first place where they differ."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def compare(theirs: Encode, ours: Encode, texts: Sequence[str] = TEXTS) -> list[Difference]:
    """The texts that become other tokens."""
    found = []
    for text in texts:
        one, other = theirs(text), ours(text)
        if one != other:
            found.append(Difference("text", text, one, other))
    return found


def compare_chats(theirs: Render, ours: Render) -> tuple[list[Difference], list[str]]:
    """The conversations that are rendered otherwise, and the renderings of llama.cpp."""
    found, rendered = [], []
    for chat in CHATS:
        one, other = theirs(chat), ours(chat)
        rendered.append(other)
        if one != other:
            what = f"Hugging Face renders {one!r}, llama.cpp {other!r}"
            found.append(Difference("chat template", what, (), ()))
    return found, rendered


@dataclass(frozen=True)
class Pieces:
    """tokenizer.model: its markers with their ids, and the ids of text between them."""

    markers: dict[str, int]
    between: Encode

    def encode(self, text: str) -> list[int]:
        """The ids, markers whole."""
        longest_first = sorted(self.markers, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        ids = [[self.markers[p]] if p in self.markers else self.between(p) for p in parts if p]
        return [token for each in ids for token in each]

    def explains(self, found: Difference) -> bool:
        """Whether only Hugging Face cuts markers here, and llama.cpp has what this file says."""
        cut = any(found.ours.count(i) > found.theirs.count(i) for i in self.markers.values())
        return cut and list(found.ours) == self.encode(found.text)


def pieces_of(folder: Path) -> Pieces | None:
    """The folder's tokenizer.model; None where it has none, or one without markers."""
    path = folder / "tokenizer.model"
    if not path.is_file():
        return None
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(path))
    ids = (i for i in range(len(model)) if model.is_control(i) or model.is_unknown(i))
    markers = {model.id_to_piece(i): i for i in ids}
    return Pieces(markers, model.encode) if markers else None
