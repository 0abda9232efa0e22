"""Make a LoRA adapter with random weights over a GGUF, for tests of size, speed and memory.

    python scripts/random_adapter.py --model build/random-150m.gguf --out build/random-lora.gguf --seed 1

It covers every linear layer of every block, in 16 bits, as a trained one does, and changes what the model answers. The same seed
gives the same bytes. Needs no torch.
"""

import argparse
from pathlib import Path

import gguf
import numpy as np

from corral.registry.lora_header import ALPHA

LAYERS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
# Of both factors, of a signal that comes in with size one: strong enough that no two adapters answer alike.
STRENGTH = 0.5


def write(out: Path, model: Path, *, seed: int, rank: int, base: str) -> None:
    """Write the adapter of `model`; it names `base` as what it was made for."""
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32(ALPHA, float(rank))
    writer.add_string("general.base_model.0.name", base)
    writer.add_uint32("general.base_model.count", 1)
    rng = np.random.default_rng(seed)
    for tensor in gguf.GGUFReader(model).tensors:
        words = tensor.name.split(".")
        if len(words) == 4 and words[2] in LAYERS:
            width, height = (int(extent) for extent in tensor.shape)
            for letter, shape in (("a", (rank, width)), ("b", (height, rank))):
                drawn = rng.standard_normal(shape, np.float32) * (STRENGTH / shape[1] ** 0.5)
                writer.add_tensor(f"{tensor.name}.lora_{letter}", drawn.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="the base's GGUF")
    parser.add_argument("--out", type=Path, required=True, help="GGUF file to write")
    parser.add_argument("--base", help="the base's name in Corral (default: the file's stem)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default 1)")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_suffix(".part")
    base = args.base or args.model.stem
    write(part, args.model, seed=args.seed, rank=args.rank, base=base)
    part.replace(args.out)


if __name__ == "__main__":
    main()
