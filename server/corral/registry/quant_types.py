"""The types that the built llama-quantize offers, taken from its own help, and what each one wants.

The help is the only list: a newer llama.cpp brings its types along. What it does not say, which
tensor type a name stands for, follows from the name but for the few in `DEFAULTS`.
"""

import difflib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from corral.errors import BadRequest, ToolError

QUANTIZE = "llama-quantize"
# `  15  or  Q4_K_M  :  4.58G, +0.1754 ppl @ Llama-3-8B`; COPY has no number, and is no type.
HELP_LINE = re.compile(r"^ +(\d+) +or +(\w+) *: *(.*)$", re.M)
ALIAS = re.compile(r"alias for (\w+)")
# llama_ftype_get_default_type of src/llama-quant.cpp, where the name says something else.
DEFAULTS = {
    "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "MXFP4_MOE": "MXFP4",
}  # fmt: skip
SIZED = re.compile(r"(Q\d_K)_[SML]\Z")
# These make no use of an importance matrix; without one, those of NEEDING are refused by llama-quantize.
WITHOUT_IMATRIX = ("F32", "F16", "BF16", "Q8_0")
NEEDING_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S")
UNQUANTISED = ("F32", "F16", "BF16")
HELP_SECONDS = 30


@dataclass(frozen=True)
class QuantType:
    """One type: its name, llama.cpp's number (`general.file_type`), and what the help says of it."""

    name: str
    number: int
    note: str = ""

    @property
    def tensor_type(self) -> str:
        """The tensor type, in ggml's spelling and upper case, that most of the weights get."""
        sized = SIZED.match(self.name)
        return DEFAULTS.get(self.name, sized[1] if sized else self.name)

    @property
    def uses_imatrix(self) -> bool:
        """Whether an importance matrix changes the result."""
        return self.name not in WITHOUT_IMATRIX

    @property
    def needs_imatrix(self) -> bool:
        """Whether llama-quantize refuses without an importance matrix."""
        return self.name in NEEDING_IMATRIX


class QuantTypes:
    """The types of one llama-quantize, by name; aliases (`Q4_K`) lead to the real one."""

    def __init__(self, types: Mapping[str, QuantType], aliases: Mapping[str, str]) -> None:
        self._types, self._aliases = dict(types), dict(aliases)

    def names(self) -> list[str]:
        """Every real name, in llama.cpp's order."""
        return list(self._types)

    def find(self, name: str) -> QuantType:
        """The type of this name, in any case; BadRequest with the nearest names otherwise."""
        wanted = name.upper()
        found = self._types.get(self._aliases.get(wanted, wanted))
        if found is None:
            near = difflib.get_close_matches(
                wanted, [*self._types, *self._aliases], n=3, cutoff=0.5
            )
            hint = f"did you mean {_listed(near)}? " if near else ""
            raise BadRequest(
                f"unknown quantisation type `{name}`; {hint}There are: {', '.join(self._types)}",
                param="type",
            )
        return found

    def numbered(self, number: int) -> QuantType | None:
        """The type that a file with this `general.file_type` says it is."""
        return next((kind for kind in self._types.values() if kind.number == number), None)


def parse_help(text: str) -> QuantTypes:
    """The types in what `llama-quantize --help` prints; ToolError when there are none."""
    types: dict[str, QuantType] = {}
    aliases: dict[str, str] = {}
    for number, name, note in HELP_LINE.findall(text):
        alias = ALIAS.match(note)
        if alias:
            aliases[name] = alias[1]
        else:
            types[name] = QuantType(name, int(number), note.strip())
    if not types:
        raise ToolError(f"{QUANTIZE} --help lists no types; is it the pinned llama.cpp's?")
    return QuantTypes(types, aliases)


def quant_types(bin_dir: Path) -> QuantTypes:
    """Ask the built llama-quantize (10 ms); ToolError when it is missing or does not run."""
    program = bin_dir / QUANTIZE
    if not program.is_file():
        raise ToolError(f"{program} is missing; build llama.cpp with make build")
    try:
        # It ends with status 1 after its help.
        done = subprocess.run(
            [str(program), "--help"], capture_output=True, text=True, timeout=HELP_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{program} does not run: {error}; build it anew: make build") from error
    return parse_help(done.stdout)


def _listed(names: list[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
