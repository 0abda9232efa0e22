"""Axolotl: one YAML file. Keys as of axolotl 0.19. Pure."""

from typing import Any

from corral.finetune.recipes import deepspeed
from corral.finetune.recipes.job import Job

FORMAT = "axolotl"
RUN = "axolotl train config.yaml"


def config(job: Job) -> dict[str, Any]:
    """config.yaml."""
    found: dict[str, Any] = {
        "base_model": job.base,
        "adapter": "qlora" if job.quantised_base else "lora",
        "load_in_4bit": job.quantised_base,
        "lora_r": job.rank,
        "lora_alpha": job.alpha if job.alpha % 1 else int(job.alpha),
        "lora_dropout": job.dropout,
        # Every linear layer, unless the job names some.
        **({"lora_target_modules": list(job.targets)} if job.targets else LINEAR),
        "datasets": [_dataset(job, job.rows)],
        **({"test_datasets": [_dataset(job, job.valid)]} if job.valid else {}),
        "dataset_prepared_path": "prepared",
        "output_dir": "adapter",
        "sequence_len": job.max_length,
        # Several rows in one sequence, kept apart by FlashAttention: no step trains on padding.
        "sample_packing": job.method == "supervised",
        "num_epochs": job.epochs,
        "micro_batch_size": job.micro_rows,
        "gradient_accumulation_steps": job.accumulation,
        "learning_rate": job.rate,
        "lr_scheduler": job.schedule,
        "warmup_steps": job.warmup,
        "optimizer": "adamw_torch_fused",
        "max_grad_norm": job.clip,
        "seed": job.seed,
        "bf16": "auto",
        "gradient_checkpointing": job.gradient_checkpointing,
        "attn_implementation": "flash_attention_2",
        "deepspeed": deepspeed.FILE,
        "logging_steps": 1,
        "saves_per_epoch": 1,
    }
    if job.valid:
        found |= {"evals_per_epoch": 4, "eval_sample_packing": False}
    if job.method == "dpo":
        found |= {"rl": "dpo", "rl_beta": job.beta}
    return found


LINEAR = {"lora_target_linear": True}


def _dataset(job: Job, file: str) -> dict[str, Any]:
    if job.method == "dpo":
        return {
            "path": file,
            "ds_type": "json",
            "split": "train",
            "type": "chat_template.default",
            "field_messages": "messages",
            "field_chosen": "chosen",
            "field_rejected": "rejected",
        }
    return {
        "path": file,
        "ds_type": "json",
        "type": "chat_template",
        "chat_template": "tokenizer_default",
        "field_messages": "messages",
        "roles_to_train": ["assistant"],
        "message_field_training": "train",
        "train_on_eos": "turn",
    }
