"""LLaMA-Factory: a YAML file, and the rows described in dataset_info.json. Keys as of llamafactory 0.9.5.
Pure."""

from typing import Any

from corral.finetune.recipes import deepspeed
from corral.finetune.recipes.job import Job

FORMAT = "sharegpt"
RUN = "llamafactory-cli train config.yaml"


def config(job: Job) -> dict[str, Any]:
    """config.yaml. `template` must be that of the base: the user fills it in."""
    found: dict[str, Any] = {
        "stage": "dpo" if job.method == "dpo" else "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "model_name_or_path": job.base,
        "template": TEMPLATE,
        "dataset_dir": ".",
        "dataset": TRAIN,
        **({"eval_dataset": VALID, "eval_strategy": "epoch"} if job.valid else {}),
        "cutoff_len": job.max_length,
        "lora_rank": job.rank,
        "lora_alpha": round(job.alpha),
        "lora_dropout": job.dropout,
        "lora_target": ",".join(job.targets) or "all",
        "output_dir": "adapter",
        "num_train_epochs": float(job.epochs),
        "per_device_train_batch_size": job.micro_rows,
        "gradient_accumulation_steps": job.accumulation,
        "learning_rate": job.rate,
        "lr_scheduler_type": job.schedule,
        "warmup_steps": job.warmup,
        "max_grad_norm": job.clip,
        "seed": job.seed,
        "bf16": True,
        "disable_gradient_checkpointing": not job.gradient_checkpointing,
        "flash_attn": "fa2",
        "deepspeed": deepspeed.FILE,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "report_to": "none",
    }
    if job.method == "supervised":
        # Several rows in one sequence, kept apart: no step trains on padding.
        found |= {"packing": True, "neat_packing": True}
    else:
        found |= {"pref_beta": job.beta, "pref_loss": "sigmoid"}
    if job.quantised_base:
        found |= {"quantization_bit": 4, "quantization_method": "bnb"}
    return found


# Of the base's family; LLaMA-Factory does not read it from the model.
TEMPLATE = "FILL_IN"
TRAIN, VALID = "corral_train", "corral_valid"


def dataset_info(job: Job, columns: dict[str, set[str]]) -> dict[str, Any]:
    """dataset_info.json. `columns`: those that each file of rows has; naming one that no row has would
    fail there."""
    found: dict[str, Any] = {}
    for name, file in ((TRAIN, job.rows), (VALID, job.valid)):
        if file is None:
            continue
        named = {"messages": "conversations"}
        named |= {key: key for key in COLUMNS if key in columns[file]}
        found[name] = {"file_name": file, "formatting": "sharegpt", "columns": named}
        if job.method == "dpo":
            found[name]["ranking"] = True
    return found


COLUMNS = ("system", "tools", "chosen", "rejected")
