"""What clients may ask for: OpenAI's request, and Corral's own options beside it. Pure."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from corral.errors import BadRequest
from corral.finetune.names import SUFFIX_MAX

PAIRS_MAX, KEY_MAX, VALUE_MAX = 16, 64, 512
SEED_MAX = 2**31 - 1
ID_MAX, NAME_MAX = 100, 300
LOCAL = "corral"


def _no_auto(value: Any) -> Any:
    return None if value == "auto" else value


def _listed(value: Any) -> Any:
    """`a,b` beside `["a", "b"]`; PEFT's word for every layer is no name of one."""
    if value == "all-linear":
        return []
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


AutoInt = Annotated[int | None, BeforeValidator(_no_auto)]
AutoFloat = Annotated[float | None, BeforeValidator(_no_auto)]
Whole = int | None
Number = float | None
# Names of linear layers, and of quantisation types: they become arguments of a program.
Words = Annotated[
    tuple[Annotated[str, Field(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.]{0,99}\z")], ...],
    BeforeValidator(_listed),
    Field(max_length=64),
]
FileId = Annotated[str, Field(min_length=1, max_length=ID_MAX)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Options(_Asked):
    """Corral's own options; None is the trainer's default. docs/finetuning.md explains each."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True
    )

    engine: Literal["peft", "unsloth", "mlx", "llama.cpp"] = "peft"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    rank: AutoInt = Field(
        None, strict=True, ge=1, le=1024, validation_alias=AliasChoices("rank", "lora_rank")
    )
    alpha: AutoFloat = Field(
        None, strict=True, ge=1e-6, le=1e5, validation_alias=AliasChoices("alpha", "lora_alpha")
    )
    dropout: Number = Field(None, strict=True, ge=0, le=0.99)
    targets: Words = Field((), validation_alias=AliasChoices("targets", "lora_targets"))
    rate: AutoFloat = Field(
        None, strict=True, ge=1e-12, le=10, validation_alias=AliasChoices("rate", "learning_rate")
    )
    schedule: Literal["cosine", "linear", "constant"] | None = None
    warmup: Whole = Field(None, strict=True, ge=0, le=10**9)
    clip: Number = Field(None, strict=True, ge=1e-6, le=1e9)
    batch_tokens: Whole = Field(None, strict=True, ge=1, le=10**9)
    micro_tokens: Whole = Field(None, strict=True, ge=1, le=10**9)
    precision: Literal["auto", "bf16", "fp32"] | None = None
    gradient_checkpointing: Literal["auto", "on", "off"] | None = None
    quantised_base: Literal["on", "off"] | None = None
    valid_every: Whole = Field(None, strict=True, ge=1, le=10**9)
    valid_rows: Whole = Field(None, strict=True, ge=1, le=10**9)
    keep_checkpoints: Whole = Field(None, strict=True, ge=1, le=1000)
    checkpoint_seconds: Number = Field(None, strict=True, ge=0, le=86400)
    max_length: Whole = Field(
        None,
        strict=True,
        ge=1,
        le=10**9,
        validation_alias=AliasChoices("max_length", "max_seq_length"),
    )
    too_long: Literal["error", "truncate", "drop"] | None = None
    evaluate: bool = True
    evaluation_file: FileId | None = None
    evaluation_rows: int = Field(200, strict=True, ge=1, le=1_000_000)
    evaluation_tokens: int = Field(1500, strict=True, ge=1, le=1_000_000)
    quantise: Words = Field((), validation_alias=AliasChoices("quantise", "quantize"))
    merged: bool = False
    memory: Literal["wait", "ignore"] = "wait"


# Every name under which an option may come.
OPTION_NAMES = frozenset(
    name
    for field, info in Options.model_fields.items()
    for name in (field, *getattr(info.validation_alias, "choices", ()))
)


class Hyperparameters(_Asked):
    """OpenAI's; None is "auto". What else stands here may be an option, or is nothing we know."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    n_epochs: AutoInt = Field(None, strict=True, ge=1, le=1000)
    batch_size: AutoInt = Field(None, strict=True, ge=1, le=100_000)
    learning_rate_multiplier: AutoFloat = Field(None, strict=True, ge=1e-6, le=1e6)
    beta: AutoFloat = Field(None, strict=True, ge=1e-6, le=100)

    def given(self) -> dict[str, Any]:
        """What was set by OpenAI's names."""
        return {name: getattr(self, name) for name in type(self).model_fields
                if getattr(self, name) is not None}  # fmt: skip

    def others(self) -> dict[str, Any]:
        """The rest."""
        return dict(self.model_extra or {})


Hyper = Annotated[Hyperparameters, BeforeValidator(_none_is_empty)]


class Supervised(_Asked):
    """`method.supervised` and `method.dpo`."""

    hyperparameters: Hyper = Hyperparameters()


Configured = Annotated[Supervised, BeforeValidator(_none_is_empty)]


class Method(_Asked):
    """How to train."""

    type: Literal["supervised", "dpo"] = "supervised"
    supervised: Configured = Supervised()
    dpo: Configured = Supervised()

    @field_validator("type", mode="before")
    @classmethod
    def _is_offered(cls, value: Any) -> Any:
        if value == "reinforcement":
            raise ValueError("reinforcement is not offered here; `supervised` or `dpo` is")
        return value

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the method that was chosen."""
        return (self.dpo if self.type == "dpo" else self.supervised).hyperparameters


class Wandb(_Asked):
    """Where Weights & Biases shall show the run."""

    project: str = Field(min_length=1, max_length=128)
    name: str | None = Field(None, max_length=128)
    entity: str | None = Field(None, max_length=128)
    tags: tuple[Annotated[str, Field(max_length=64)], ...] | None = Field(None, max_length=50)


class Integration(_Asked):
    """Who is told of the run."""

    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(_Asked):
    """`POST /v1/fine_tuning/jobs`. Keys that OpenAI does not have either are passed over."""

    model: str = Field(min_length=1, max_length=NAME_MAX)
    training_file: FileId
    validation_file: FileId | None = None
    suffix: str | None = Field(None, min_length=1, max_length=SUFFIX_MAX)
    seed: Whole = Field(None, strict=True, ge=0, le=SEED_MAX)
    method: Annotated[Method, BeforeValidator(_none_is_empty)] = Method()
    hyperparameters: Hyper = Hyperparameters()
    integrations: tuple[Integration, ...] | None = Field(None, max_length=5)
    metadata: dict[str, str] | None = None
    corral: dict[str, Any] = Field(default_factory=dict)

    @field_validator("metadata")
    @classmethod
    def _is_short(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if len(value or {}) > PAIRS_MAX:
            raise ValueError(f"at most {PAIRS_MAX} pairs are allowed")
        for key, text in (value or {}).items():
            if not 0 < len(key) <= KEY_MAX or len(text) > VALUE_MAX:
                raise ValueError(
                    f"a key may have {KEY_MAX} characters and a value {VALUE_MAX}; `{key[:20]}` has more"
                )
        return value

    @classmethod
    def parse(cls, body: Any) -> Self:
        """The request in a JSON body; BadRequest names the first wrong field."""
        if not isinstance(body, Mapping):
            raise BadRequest("the body must be a JSON object", param="body", code="invalid_json")
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise explained(error) from None

    def hyper(self) -> Hyperparameters:
        """OpenAI's hyperparameters: those of the method before the older ones."""
        return Hyperparameters(
            **(self.hyperparameters.given() | self.method.hyperparameters.given())
        )

    def options(self) -> tuple[Options, tuple[str, ...]]:
        """Corral's options, and the hyperparameters that mean nothing here. Those in `corral` must
        be known: they can only be meant for us."""
        loose = self.hyperparameters.others() | self.method.hyperparameters.others()
        ours = {name: value for name, value in loose.items() if name in OPTION_NAMES}
        for name in self.corral:
            if name not in OPTION_NAMES:
                raise BadRequest(_unknown(name), param=f"{LOCAL}.{name[:80]}")
        try:
            made = Options.model_validate(ours | self.corral)
        except ValidationError as error:
            raise explained(
                error, LOCAL if _first(error) in self.corral else "hyperparameters"
            ) from None
        return made, tuple(sorted(loose.keys() - OPTION_NAMES))


def explained(error: ValidationError, within: str = "") -> BadRequest:
    """The first thing that is wrong, by its field."""
    first = error.errors(include_url=False)[0]
    parts = [within] if within else []
    param = ".".join(parts + [str(part)[:80] for part in first["loc"] if part != "[key]"])
    said = first["msg"].removeprefix("Value error, ")
    found = (
        "" if first["type"] in ("missing", "value_error") else f"; found {_shown(first['input'])}"
    )
    return BadRequest(f"`{param}`: {said}{found}", param=param)


def _first(error: ValidationError) -> str:
    loc = error.errors(include_url=False, include_input=False)[0]["loc"]
    return str(loc[0]) if loc else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, sorted(OPTION_NAMES), n=1, cutoff=0.5)
    known = ", ".join(f"`{option}`" for option in Options.model_fields)
    return f"`{LOCAL}.{name[:80]}`: no such option; " + (
        f"did you mean `{near[0]}`?" if near else f"there are: {known}"
    )
