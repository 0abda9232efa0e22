"""DeepSpeed's ZeRO stage 2: gradients and optimiser state spread over the GPUs. `auto` is filled in by
transformers' trainer."""

from typing import Any

FILE = "deepspeed_zero2.json"
CONFIG: dict[str, Any] = {
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
        "allgather_bucket_size": "auto",
    },
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
