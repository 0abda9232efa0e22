"""The bundled model as a Hugging Face folder and as GGUF: shape, fresh weights, export by the pinned converter."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

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


def plain_attention(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: object,
    **_options: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention by two batched products; rows are padded on the right, so no other mask is needed.

    Shapes [rows, heads, length, 64] in, [rows, length, heads, 64] out. torch's CPU flash attention took 1.4 to 1.5 times as long for a
    whole training step at these lengths (100 to 1,500 tokens, docs/log.md).
    """
    rows, heads, length, width = query.shape
    groups = heads // key.shape[1]
    key, value = (
        t.repeat_interleave(groups, 1).reshape(rows * heads, length, width) for t in (key, value)
    )
    causal = torch.full((length, length), float("-inf"), dtype=query.dtype).triu(1)
    scores = torch.baddbmm(
        causal, query.reshape(rows * heads, length, width) * width**-0.5, key.transpose(1, 2)
    )
    mixed = torch.bmm(torch.softmax(scores, -1, dtype=query.dtype), value)
    return mixed.view(rows, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register("corral_plain", plain_attention)


def fresh(seed: int) -> LlamaForCausalLM:
    """New weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation="corral_plain"))


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
