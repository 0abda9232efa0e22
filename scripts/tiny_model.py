"""The bundled model as a Hugging Face folder and as GGUF: shape, fresh weights, export by the pinned converter."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engines.peft_engine import load_base
from training import ATTENTION

# Hidden and feed-forward sizes are multiples of 256: the block of the K-quants, which otherwise fall back.
SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "pad_token_id": 2,
}


def fresh(seed: int) -> LlamaForCausalLM:
    """New weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation=ATTENTION))


def weights_of(gguf: Path) -> dict[str, torch.Tensor]:
    """The weights of a GGUF of this shape, by the names that `fresh` gives them."""
    base = load_base(gguf, int(SHAPE["max_position_embeddings"]), device=torch.device("cpu"))
    weights: dict[str, torch.Tensor] = base.state_dict()
    return weights


def write_hf(model: LlamaForCausalLM, folder: Path) -> None:
    """Put config.json and model.safetensors (float32) beside the tokenizer that is already in `folder`."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "head_dim": 64,
    }
    config |= {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, **SHAPE}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    state = {
        k: v.detach().float().contiguous()
        for k, v in model.state_dict().items()
        if k != "lm_head.weight"
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def to_gguf(folder: Path, out: Path, llama_source: Path, *, vocab_only: bool = False) -> None:
    """Convert the folder with llama.cpp's own converter; raises CalledProcessError with its output on stderr."""
    command = [
        sys.executable,
        str(llama_source / "convert_hf_to_gguf.py"),
        str(folder),
        "--outfile",
        str(out),
    ]
    command += [
        "--outtype",
        "f32",
        "--model-name",
        "corral-tiny",
        *(["--vocab-only"] if vocab_only else []),
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
