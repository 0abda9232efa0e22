"""A copy of a model for llama-perplexity, in which the role markers of a chat are tokens of plain text.

llama-perplexity cuts control tokens in a text into pieces, other than serving does. A user-defined
token is found in every text, but llama.cpp calls the ends of a turn (`<|im_end|>`) control tokens
again, by their names. So in the copy each control token is user-defined and has its letters in the
other case (`<|IM_END|>`, as long as before), and the text is written likewise. The weights, and the
numbers of the tokens, are the same.
"""

from pathlib import Path
from shutil import copyfile

from gguf import GGUFReader

from llama_tools import make_room
from quant_coverage import parts

TOKENS, TOKEN_TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
CONTROL, USER_DEFINED = 3, 4


def copy(model: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """The copy in `folder`, and its markers by the model's; of shards only the first is copied. Takes
    as much disk as that file."""
    first, *others = parts(model)
    make_room(folder, first.stat().st_size, f"a copy of {first.name} with plain markers")
    made = folder / first.name
    copyfile(first, made)
    for other in others:
        (folder / other.name).symlink_to(other.resolve())
    return made, _rename(made)


def plain(text: str, markers: dict[str, str]) -> str:
    """The text with the copy's markers, the longest first as llama.cpp finds them."""
    for marker in sorted(markers, key=len, reverse=True):
        text = text.replace(marker, markers[marker])
    return text


def other_case(marker: bytes) -> bytes:
    """ASCII letters in the other case, so that it is as long and has another name."""
    return marker.swapcase()


def _rename(path: Path) -> dict[str, str]:
    fields = GGUFReader(path, "r+").fields
    types, tokens = fields.get(TOKEN_TYPES), fields.get(TOKENS)
    if types is None or tokens is None:
        return {}
    markers = {}
    for kind, name in zip(types.data, tokens.data, strict=True):
        if int(types.parts[kind][0]) != CONTROL:
            continue
        old = bytes(tokens.parts[name])
        types.parts[kind][0] = USER_DEFINED
        tokens.parts[name][:] = list(other_case(old))
        markers[old.decode(errors="replace")] = other_case(old).decode(errors="replace")
    return markers
