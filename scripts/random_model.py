"""Make a GGUF of a given size with random weights and the bundled tokenizer, for tests of size, speed and memory.

    python scripts/random_model.py --parameters 150e6 --out build/random-150m.gguf

A llama whose hidden size is a multiple of 256, so that K-quants do not fall back. It answers nonsense, at the speed and in the
memory of a real model of that size. The same seed gives the same bytes. Needs no torch.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

BUNDLED = Path(__file__).resolve().parents[1] / "models" / "corral-tiny.gguf"
HEAD = 64
CONTEXT = 8192
SPREAD = 0.02  # of the weights: llama's usual initialisation
TYPES = {
    "f32": (np.float32, gguf.LlamaFileType.ALL_F32),
    "f16": (np.float16, gguf.LlamaFileType.MOSTLY_F16),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a llama with tied embeddings and four query heads to each key-value head."""

    vocabulary: int
    hidden: int
    layers: int

    @property
    def feed_forward(self) -> int:
        return round(self.hidden * 8 / 3 / 256) * 256 or 256

    @property
    def kv_heads(self) -> int:
        return max(1, self.hidden // HEAD // 4)

    @property
    def per_layer(self) -> int:
        attention = 2 * self.hidden * (self.hidden + self.kv_heads * HEAD)
        return attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def parameters(self) -> int:
        return (self.vocabulary + 1) * self.hidden + self.layers * self.per_layer

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """llama.cpp's names, and shapes with the fastest extent last; norms have one extent."""
        hidden, kv, inner = self.hidden, self.kv_heads * HEAD, self.feed_forward
        yield "token_embd.weight", (self.vocabulary, hidden)
        for number in range(self.layers):
            yield f"blk.{number}.attn_norm.weight", (hidden,)
            yield f"blk.{number}.attn_q.weight", (hidden, hidden)
            yield f"blk.{number}.attn_k.weight", (kv, hidden)
            yield f"blk.{number}.attn_v.weight", (kv, hidden)
            yield f"blk.{number}.attn_output.weight", (hidden, hidden)
            yield f"blk.{number}.ffn_norm.weight", (hidden,)
            yield f"blk.{number}.ffn_gate.weight", (inner, hidden)
            yield f"blk.{number}.ffn_up.weight", (inner, hidden)
            yield f"blk.{number}.ffn_down.weight", (hidden, inner)
        yield "output_norm.weight", (hidden,)


def shape_of(parameters: int, vocabulary: int) -> Shape:
    """The narrowest shape near `parameters` that is no deeper than a 32nd of its width."""
    for hidden in range(256, 65_536, 256):
        one = Shape(vocabulary, hidden, 1)
        layers = round((parameters - one.parameters) / one.per_layer) + 1
        if layers <= hidden // 32:
            return Shape(vocabulary, hidden, max(1, layers))
    raise SystemExit(f"--parameters {parameters} is more than any model has")


def describe(writer: gguf.GGUFWriter, shape: Shape, name: str, file_type: int) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.hidden // HEAD)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(file_type)


def copy_tokenizer(source: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """Every `tokenizer.` key, the chat template among them."""
    for field in source.fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:
    """Norms are ones and stay F32, as the converter leaves them; matrices are random."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    return (rng.standard_normal(shape, np.float32) * np.float32(SPREAD)).astype(dtype)


def write(out: Path, parameters: int, *, seed: int, kind: str, tokenizer: Path) -> Shape:
    """Write the model, one tensor in memory at a time; its shape."""
    source = gguf.GGUFReader(tokenizer)
    shape = shape_of(parameters, len(source.fields["tokenizer.ggml.tokens"].data))
    dtype, file_type = TYPES[kind]
    writer = gguf.GGUFWriter(out, "llama")
    describe(writer, shape, out.stem, file_type)
    copy_tokenizer(source, writer)
    for name, extents in shape.tensors():
        stored = np.dtype(np.float32 if len(extents) == 1 else dtype)
        writer.add_tensor_info(name, extents, stored, int(np.prod(extents)) * stored.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for _, extents in shape.tensors():
        writer.write_tensor_data(drawn(rng, extents, dtype))
    writer.close()
    return shape


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="GGUF file to write")
    parser.add_argument("--parameters", type=float, default=150e6, help="about so many (150e6)")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default 1)")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the matrices (f16)")
    parser.add_argument(
        "--tokenizer", type=Path, default=BUNDLED, help="GGUF whose tokenizer it gets (bundled)"
    )
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_suffix(".part")
    shape = write(
        part, int(args.parameters), seed=args.seed, kind=args.type, tokenizer=args.tokenizer
    )
    part.replace(args.out)
    print(f"{args.out}: {shape.parameters:,} parameters, {shape.layers} layers", file=sys.stderr)


if __name__ == "__main__":
    main()
