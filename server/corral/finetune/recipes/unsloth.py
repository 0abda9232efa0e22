"""Unsloth: a Python script over its loader and TRL's trainers. Calls as of unsloth 2026.10 and trl 1.16.
Pure.

Unsloth trains on one GPU, so the script has no DeepSpeed; FlashAttention it picks by itself.
"""

from string import Template

from corral.finetune.recipes.job import Job

FORMAT = "trl"
RUN = "python train.py"

SCRIPT = Template('''"""Fine-tune $base with Unsloth: `pip install unsloth`, then `python train.py` on a CUDA machine."""

from unsloth import FastLanguageModel
from datasets import load_dataset
from trl import $trainer, $config

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name=$base_text,
    max_seq_length=$max_length,
    load_in_4bit=$quantised_base,
)
model = FastLanguageModel.get_peft_model(
    model,
    r=$rank,
    lora_alpha=$alpha,
    lora_dropout=$dropout,
    target_modules=$targets,
    use_gradient_checkpointing=$checkpointing,
    random_state=$seed,
)
trainer = $trainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=load_dataset("json", data_files=$rows, split="train"),
    eval_dataset=$valid,
    args=$config(
        output_dir="checkpoints",
        max_length=$max_length,
        num_train_epochs=$epochs,
        per_device_train_batch_size=$micro_rows,
        gradient_accumulation_steps=$accumulation,
        learning_rate=$rate,
        lr_scheduler_type=$schedule,
        warmup_steps=$warmup,
        max_grad_norm=$clip,
        optim="adamw_torch_fused",
        bf16=True,
        seed=$seed,
        logging_steps=1,
        save_strategy="epoch",
        report_to="none",
        $more,
    ),
)
trainer.train()
model.save_pretrained("adapter")
''')
# Unsloth's own default: every linear layer of a llama-like model.
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def script(job: Job, *, prompts: bool) -> str:
    """train.py. `prompts`: the rows are prompt and completion, whose loss TRL takes on the completion
    by itself; else chats, where it must be told."""
    dpo = job.method == "dpo"
    if dpo:
        more = f"beta={job.beta!r}"
    else:
        more = "completion_only_loss=True" if prompts else "assistant_only_loss=True"
    valid = "None"
    if job.valid:
        valid = f'load_dataset("json", data_files={job.valid!r}, split="train")'
    return SCRIPT.substitute(
        base=job.base,
        base_text=repr(job.base),
        trainer="DPOTrainer" if dpo else "SFTTrainer",
        config="DPOConfig" if dpo else "SFTConfig",
        max_length=job.max_length,
        quantised_base=job.quantised_base,
        rank=job.rank,
        alpha=round(job.alpha),
        dropout=job.dropout,
        targets=repr(list(job.targets or LINEAR)),
        checkpointing=repr("unsloth") if job.gradient_checkpointing else False,
        seed=job.seed,
        rows=repr(job.rows),
        valid=valid,
        epochs=job.epochs,
        micro_rows=job.micro_rows,
        accumulation=job.accumulation,
        rate=job.rate,
        schedule=repr(job.schedule),
        warmup=job.warmup,
        clip=job.clip,
        more=more,
    )
