"""What a recipe needs to know of a job: our options with our defaults, in plain figures. Pure."""

from dataclasses import dataclass

from corral.datasets.counting import suggested_epochs
from corral.errors import BadRequest
from corral.finetune.schemas import CreateJob

# Defaults of training here for models of 100 M parameters and more; smaller ones are trained here.
RANK = 16
RATES = {"supervised": 2e-4, "dpo": 2e-5}
BETA = 0.1
WARMUP_STEPS = 20
MAX_LENGTH = 4096
# Rows in a step where the job says nothing: here a step is filled by tokens, which others cannot do.
BATCH_ROWS = 8
MICRO_ROWS = 2
SEED = 1


@dataclass(frozen=True)
class Job:
    """One training. `base`: Hugging Face repository or folder of the unquantised weights; `rows`,
    `valid`: file names in the recipe's folder."""

    base: str
    method: str
    rows: str
    valid: str | None
    epochs: int
    seed: int
    batch_rows: int
    micro_rows: int
    rate: float
    schedule: str
    warmup: int
    clip: float
    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    beta: float
    max_length: int
    quantised_base: bool
    gradient_checkpointing: bool

    @property
    def accumulation(self) -> int:
        """Parts of a step, on one GPU."""
        return max(1, self.batch_rows // self.micro_rows)


def job_of(request: CreateJob, base: str, count: int, rows: str, valid: str | None) -> Job:
    """The job that `request` asks for, over `count` training rows."""
    options, ignored = request.options()
    if ignored:
        raise BadRequest(f"`{ignored[0]}` is no option of a training here", param="set")
    hyper, method = request.hyper(), request.method.type
    batch = hyper.batch_size or BATCH_ROWS
    rank = options.rank or RANK
    rate = options.rate or RATES[method] * (hyper.learning_rate_multiplier or 1)
    return Job(
        base=base,
        method=method,
        rows=rows,
        valid=valid,
        epochs=hyper.n_epochs or suggested_epochs(count),
        seed=request.seed if request.seed is not None else SEED,
        batch_rows=batch,
        micro_rows=MICRO_ROWS if batch % MICRO_ROWS == 0 else 1,
        rate=rate,
        schedule=options.schedule or "cosine",
        warmup=WARMUP_STEPS if options.warmup is None else options.warmup,
        clip=options.clip or 1.0,
        rank=rank,
        alpha=options.alpha or 2.0 * rank,
        dropout=options.dropout or 0.0,
        targets=options.targets,
        beta=hyper.beta or BETA,
        max_length=options.max_length or MAX_LENGTH,
        quantised_base=options.quantised_base == "on",
        gradient_checkpointing=options.gradient_checkpointing != "off",
    )
