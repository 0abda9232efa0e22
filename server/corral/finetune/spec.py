"""What a fine-tuning job is asked for, and the names of its stages that others ask after."""

from pydantic import Field

from corral.finetune.schemas import Hyperparameters, Integration, Options
from corral.jobs import kinds

VALIDATE, TRAIN, PARITY, RESULTS = "validate", "train", "parity", "results"


class Spec(kinds.Spec):
    """What a job trains: names and file ids, resolved when it was made. `model` is the base, `start` the
    adapter to go on from; `asked` is the model's name as the client wrote it; `ignored` are
    hyperparameters that mean nothing here."""

    model: str = Field(min_length=1, max_length=300)
    asked: str = ""
    start: str = ""
    training_file: str
    validation_file: str | None = None
    suffix: str = ""
    seed: int
    method: str = "supervised"
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    options: Options = Options()
    metadata: dict[str, str] | None = None
    integrations: tuple[Integration, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def hyperparameters(self) -> Hyperparameters:
        """OpenAI's."""
        return Hyperparameters(
            **{name: getattr(self, name) for name in Hyperparameters.model_fields}
        )
