"""The dataset formats of the field, by the names that the command line and the API use."""

from collections.abc import Iterable
from typing import Any

from corral.datasets.formats.alpaca import Alpaca
from corral.datasets.formats.axolotl import AxolotlChat, AxolotlCompletion
from corral.datasets.formats.bedrock import Bedrock
from corral.datasets.formats.gemini import Gemini
from corral.datasets.formats.interface import Format
from corral.datasets.formats.mlx import MLXChat, MLXText
from corral.datasets.formats.openai_chat import OpenAIChat
from corral.datasets.formats.openai_dpo import OpenAIDPO
from corral.datasets.formats.prompt_completion import PromptCompletion
from corral.datasets.formats.sharegpt import ShareGPT
from corral.datasets.formats.trl import TRL
from corral.errors import InvalidData

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        OpenAIChat(),
        OpenAIDPO(),
        PromptCompletion(),
        MLXChat(),
        MLXText(),
        ShareGPT(),
        Alpaca(),
        AxolotlChat(),
        AxolotlCompletion(),
        TRL(),
        Gemini(),
        Bedrock(),
    )
}


def get(name: str) -> Format:
    """The format of that name. Raises InvalidData, naming all, for one that is not known."""
    if name not in FORMATS:
        raise InvalidData(
            f"format {name!r} is not known; allowed: {', '.join(FORMATS)}", param="format"
        )
    return FORMATS[name]


def detect(values: Iterable[dict[str, Any]]) -> Format | None:
    """The format that fits the rows best; None when none fits any of them.

    mlx and axolotl-completion rows cannot be told from openai and mlx-text ones, and need not be.
    """
    seen = list(values)
    if not seen:
        return None
    scores = {name: [format.score(value) for value in seen] for name, format in FORMATS.items()}
    # One row that can only be of one format tells more than many that could be of several.
    best = max(scores, key=lambda name: (max(scores[name]), sum(scores[name])))
    return FORMATS[best] if max(scores[best]) else None


__all__ = ["FORMATS", "Format", "detect", "get"]
