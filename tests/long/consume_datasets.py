"""Run in an environment with mlx-lm and TRL: their own loaders and trainers on a folder's files.

    python consume_datasets.py FOLDER CHAT_TEMPLATE

FOLDER has mlx/ and mlx-text/ (train.jsonl, valid.jsonl), and trl-chat, trl-completion,
trl-preference, trl-text .jsonl and .parquet files. Prints one JSON object: rows each consumer took.
"""

import json
import sys
import types
from pathlib import Path
from typing import Any


def tokenizer(template: str) -> Any:
    """A byte-level tokenizer with the bundled chat template; nothing is downloaded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def mlx_lm(folder: Path, tokens: Any) -> dict[str, int]:
    """Load and process every row with mlx-lm's own code."""
    from mlx_lm.tuner.datasets import load_local_dataset

    taken: dict[str, int] = {}
    for name in ("mlx", "mlx-text"):
        for split in load_local_dataset(
            folder / name, tokens, types.SimpleNamespace(mask_prompt=False)
        ):
            for index in range(len(split)):
                ids, _ = split.process(split[index])
                assert len(ids) > 3
                taken[name] = taken.get(name, 0) + 1
    return taken


def trl(folder: Path, tokens: Any) -> dict[str, Any]:
    """One training step of a random tiny model on each file."""
    from datasets import load_dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    taken: dict[str, Any] = {}
    for path in sorted([*folder.glob("trl-*.jsonl"), *folder.glob("trl-*.parquet")]):
        kind = "json" if path.suffix == ".jsonl" else "parquet"
        rows = load_dataset(
            kind, data_files=str(path), split="train", cache_dir=str(folder / "cache")
        )
        preference = "preference" in path.name
        settings: dict[str, Any] = {
            "output_dir": str(folder / "out"),
            "max_steps": 1,
            "per_device_train_batch_size": 2,
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
        }
        options = DPOConfig(**settings) if preference else SFTConfig(**settings)
        common: dict[str, Any] = {
            "model": LlamaForCausalLM(config),
            "args": options,
            "train_dataset": rows,
            "processing_class": tokens,
        }
        if preference:
            result = DPOTrainer(ref_model=LlamaForCausalLM(config), **common).train()
        else:
            result = SFTTrainer(**common).train()
        assert result.training_loss > 0
        taken[path.name] = len(rows)
        if "trl-chat" in path.name:
            call = rows[1]["messages"][2]["tool_calls"][0]["function"]
            taken[f"{path.name} arguments"] = call["arguments"]
    return taken


def main() -> None:
    """The command line."""
    folder, template = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
    print(
        json.dumps(
            {"mlx": mlx_lm(folder, tokenizer(template)), "trl": trl(folder, tokenizer(template))}
        )
    )


if __name__ == "__main__":
    main()
