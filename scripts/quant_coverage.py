"""What a quantised file really holds: how much of it has the type that it is called by.

llama-quantize stores a tensor in another type than asked for when its rows do not divide into that
type's blocks (256 weights for the K and IQ types): a `Q4_K_M` of a model whose rows are 896 long is
mostly Q5_0. The types in the file are compared with what the named type wants.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from corral.errors import GateError
from corral.registry.catalog import SHARD
from corral.registry.gguf_header import NEWER_TYPES, Tensor, read_header
from corral.registry.quant_types import UNQUANTISED, QuantType

# The K and IQ types mix among each other by design (attn_v of a Q4_K_M is Q6_K), and these ends of
# a model are given more bits by design as well.
SUPER_BLOCK = 256
ENDS = ("token_embd.weight", "output.weight", "per_layer_token_embd.weight")
# Small tensors that Q4_0 and Q5_0 raise, and the K types that IQ4_NL takes for some.
RAISED = {"Q4_0": {"Q4_1"}, "Q5_0": {"Q5_1"}, "IQ4_NL": {"Q5_K", "Q6_K"}}
LEAST_COVERED = 0.5
BLOCKS = {
    **{kind.name: int(GGML_QUANT_SIZES[kind][0]) for kind in GGMLQuantizationType},
    **{name: block for name, block, _ in NEWER_TYPES.values()},
}


@dataclass(frozen=True)
class Coverage:
    """Shares of the weights of a file. `covered` has the named type or what that type mixes in;
    `fallback` had to take another; the rest was left as it was, or overridden."""

    type: str
    covered: float
    fallback: float
    fallback_tensors: int
    types: dict[str, int]  # tensor type -> weights

    def as_json(self) -> dict[str, object]:
        """JSON-ready, for a manifest."""
        return {
            "covered_share": round(self.covered, 4),
            "fallback_share": round(self.fallback, 4),
            "fallback_tensors": self.fallback_tensors,
            "weights_by_type": self.types,
        }


def coverage(path: Path, kind: QuantType, overrides: Sequence[str] = ()) -> Coverage:
    """Read the headers of a file, all shards included, and compare. `overrides` are the patterns of
    `--tensor-type`: what they match counts as covered only in the named type itself."""
    tensors = [t for part in parts(path) for t in read_header(part, details=True).tensors]
    return compare(tensors, kind, overrides)


def parts(path: Path) -> list[Path]:
    """The file, or all the shards of which it is the first."""
    match = SHARD.match(path.stem)
    if not match:
        return [path]
    count = int(match["count"])
    return [
        path.with_name(f"{match['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)
    ]


def compare(tensors: Sequence[Tensor], kind: QuantType, overrides: Sequence[str] = ()) -> Coverage:
    """`coverage` for tensors."""
    patterns = [re.compile(pattern.partition("=")[0].lower()) for pattern in overrides]
    types: dict[str, int] = {}
    covered = fallback = fallen = 0
    for tensor in tensors:
        name = type_name(tensor.type)
        types[name] = types.get(name, 0) + tensor.elements
        overridden = any(pattern.search(tensor.name) for pattern in patterns)
        if fell_back(tensor, name, kind.tensor_type) and not overridden:
            fallback, fallen = fallback + tensor.elements, fallen + 1
        elif name == kind.tensor_type or (not overridden and mixed_in(tensor, name, kind)):
            covered += tensor.elements
    total = sum(types.values()) or 1
    return Coverage(kind.name, covered / total, fallback / total, fallen, types)


def fell_back(tensor: Tensor, stored: str, wanted: str) -> bool:
    """Whether llama-quantize could not store the tensor as wanted: its rows do not divide. What it
    leaves alone (vectors, norms, routing) stays F32."""
    if len(tensor.shape) < 2 or stored in ("F32", wanted):
        return False
    return tensor.shape[0] % BLOCKS[wanted] != 0


def mixed_in(tensor: Tensor, stored: str, kind: QuantType) -> bool:
    """Whether the named type stores some tensors so by design."""
    wanted = kind.tensor_type
    if stored == "F32":
        # Vectors and norms are F32 in an F16 file too; elsewhere they are not quantised.
        return wanted in UNQUANTISED and len(tensor.shape) < 2
    if tensor.name in ENDS or stored in RAISED.get(wanted, ()):
        return True
    return BLOCKS[wanted] == BLOCKS[stored] == SUPER_BLOCK


def type_name(number: int) -> str:
    """ggml's name of a tensor type, in upper case."""
    return (
        NEWER_TYPES[number][0] if number in NEWER_TYPES else str(GGMLQuantizationType(number).name)
    )


def check_name(found: Coverage, model: str) -> None:
    """GateError unless the named type covers at least half of the weights."""
    if found.covered >= LEAST_COVERED and found.types.get(_wanted(found)):
        return
    stored = ", ".join(
        f"{name} {weights / sum(found.types.values()):.0%}"
        for name, weights in sorted(found.types.items(), key=lambda item: -item[1])
    )
    raise GateError(
        f"{model} cannot be called {found.type}: that type covers {found.covered:.0%} of its "
        f"weights, at least {LEAST_COVERED:.0%} are needed (stored: {stored}; "
        f"{found.fallback_tensors} tensors fell back because their rows do not divide into its "
        "blocks). Take a type with blocks of 32, such as Q8_0, Q5_1 or Q4_0",
        param="type",
    )


def _wanted(found: Coverage) -> str:
    return QuantType(found.type, 0).tensor_type
