"""What decides the result of a training, and the defaults for what was not given.

OpenAI's three: `n_epochs` is `epochs`; `batch_size` is rows (or pairs) in a step; the
`learning_rate_multiplier` multiplies the default rate of the model's size and method, so 1 is
"auto" everywhere. `rate` sets the rate itself and leaves the multiplier out.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from corral.datasets.counting import suggested_epochs
from corral.errors import BadRequest
from corral.registry.trainer_defaults import SMALL, micro_tokens_on, rank_for

Method = Literal["supervised", "dpo"]
Switch = Literal["auto", "on", "off"]
# Rates at which the bundled base and usual models converge; DPO moves weights that are already good.
RATES = {
    ("supervised", True): 2e-3,
    ("supervised", False): 2e-4,
    ("dpo", True): 2e-4,
    ("dpo", False): 2e-5,
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("supervised", "dpo"),
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("auto", "bf16", "fp32"),
    "gradient_checkpointing": ("auto", "on", "off"),
    "quantised_base": ("on", "off"),
}
# Smallest and largest allowed; None is unbounded, and an open lower end is written just above zero.
_RANGES: dict[str, tuple[float, float | None]] = {
    "epochs": (1e-6, 1000),
    "batch_size": (1, 100_000),
    "batch_tokens": (1, None),
    "micro_tokens": (1, None),
    "rate": (1e-12, 10),
    "rate_multiplier": (1e-6, 1e6),
    "rank": (1, 1024),
    "alpha": (1e-6, 1e5),
    "dropout": (0, 0.99),
    "beta": (1e-6, 100),
    "warmup": (0, None),
    "valid_every": (1, None),
    "valid_rows": (1, None),
    "keep_checkpoints": (1, 1000),
    "clip": (1e-6, None),
}


@dataclass(frozen=True)
class Hyperparameters:
    """None is "auto". `batch_size` None: steps of about `batch_tokens` tokens. `targets` empty: every
    linear layer but the output. `warmup` and `valid_every` are steps."""

    method: Method = "supervised"
    epochs: float | None = None
    batch_size: int | None = None
    batch_tokens: int = 4096
    micro_tokens: int | None = None
    rate: float | None = None
    rate_multiplier: float = 1.0
    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    beta: float = 0.1
    seed: int = 1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: int | None = None
    clip: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: Switch = "auto"
    quantised_base: Literal["on", "off"] = "off"
    valid_every: int | None = None
    valid_rows: int = 64
    keep_checkpoints: int = 3
    checkpoint_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise BadRequest(
                    f"{name} is {value!r}; must be one of {', '.join(allowed)}", param=name
                )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= (high if high is not None else value)):
                top = f" and at most {high:g}" if high is not None else ""
                raise BadRequest(f"{name} is {value}; must be at least {low:g}{top}", param=name)

    def resolved(self, parameters: int, rows: int, device: str) -> "Hyperparameters":
        """Every "auto" that depends on the model's size, the number of rows (or pairs) or the kind of
        device, filled in."""
        small = parameters < SMALL
        rank = self.rank or rank_for(parameters)
        return replace(
            self,
            epochs=self.epochs if self.epochs is not None else float(suggested_epochs(rows)),
            rate=self.rate or RATES[self.method, small] * self.rate_multiplier,
            rank=rank,
            alpha=self.alpha or 2.0 * rank,
            micro_tokens=self.micro_tokens or micro_tokens_on(device),
        )

    def recorded(self) -> dict[str, Any]:
        """JSON-ready, for manifests and the fingerprint of a work folder."""
        return asdict(self) | {"targets": list(self.targets)}
