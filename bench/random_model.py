"""A GGUF with random weights that is large enough to keep the cores busy, and says nothing.

    python -m bench.random_model --like models/corral-tiny.gguf --out /tmp/random-150m.gguf

Tokenizer and template are those of the bundled model; the size is that of a small real one: 15
layers of 896, about 150 M parameters, Q8_0. The bundled model is so small that the gateway and the client
share its cores with it: tokens/s beside it would say little about real use.
"""

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN = 896, 15, 14, 2432
CONTEXT = 8192
# What describes the old shape, or is written by the writer itself.
REPLACED = (
    "GGUF.",
    "general.architecture",
    "general.file_type",
    "general.quantization_version",
    "llama.",
)


def _copy(reader: Any, writer: Any) -> None:
    """Tokenizer, template and name."""
    for field in reader.fields.values():
        if field.name.startswith(REPLACED):
            continue
        kind = field.types[0]
        sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_type)


def _shape(writer: Any, words: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(words)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def _tensors(words: int) -> dict[str, tuple[int, int]]:
    """Each matrix by name, rows by columns."""
    found = {"token_embd": (words, WIDTH), "output": (words, WIDTH)}
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found[f"blk.{layer}.{name}"] = (WIDTH, WIDTH)
        found[f"blk.{layer}.ffn_gate"] = found[f"blk.{layer}.ffn_up"] = (HIDDEN, WIDTH)
        found[f"blk.{layer}.ffn_down"] = (WIDTH, HIDDEN)
    return found


def make(like: Path, out: Path, seed: int = 1) -> int:
    """Write the model; how many parameters it has."""
    dice = np.random.default_rng(seed)
    reader = gguf.GGUFReader(like)
    words = len(reader.fields["tokenizer.ggml.tokens"].data)
    writer = gguf.GGUFWriter(out, "llama")
    _copy(reader, writer)
    _shape(writer, words)
    norms = ["output_norm"]
    norms += [f"blk.{n}.{kind}_norm" for n in range(LAYERS) for kind in ("attn", "ffn")]
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    total = 0
    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, (rows, columns) in _tensors(words).items():
        values = dice.normal(0, 0.02, (rows, columns)).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, q8), raw_dtype=q8)
        total += rows * columns
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return total


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--like", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    print(f"{flags.out}: {make(flags.like, flags.out) / 1e6:.0f} M parameters")


if __name__ == "__main__":
    main()
