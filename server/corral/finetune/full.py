"""What a job of the engine `llama.cpp` may be: every weight of an F32 base, on raw text. Pure.

The engine itself: scripts/engines/llama_engine.py.
"""

from corral.errors import BadRequest
from corral.finetune.schemas import CreateJob, Options
from corral.registry.catalog import Model
from corral.registry.fit import Shape
from corral.registry.fit_subject import file_type, shard_paths
from corral.registry.gguf_header import read_header

ENGINE = "llama.cpp"
TAKES = frozenset(
    {
        "engine", "device", "rate", "memory", "quantise",
        "evaluate", "evaluation_file", "evaluation_rows", "evaluation_tokens",
    }
)  # fmt: skip


def check(request: CreateJob, base: Model) -> None:
    """BadRequest when the engine cannot do that."""
    if request.method.type != "supervised":
        raise BadRequest(f"the engine `{ENGINE}` has no dpo; use `peft`", param="method")
    if request.validation_file:
        raise BadRequest(
            f"the engine `{ENGINE}` measures with the end of the training text; leave `validation_file` "
            "out, or give conversations as `corral.evaluation_file`",
            param="validation_file",
        )
    weights = file_type(Shape([read_header(path, details=True) for path in shard_paths(base.path)]))
    if weights != "F32":
        raise BadRequest(
            f"the engine `{ENGINE}` trains F32 weights, and `{base.name}` has {weights}; choose an F32 "
            "model, or the engine `peft`",
            param="model",
        )


def unused(request: CreateJob, options: Options) -> tuple[str, ...]:
    """What was asked for and means nothing to this engine."""
    given = {*options.model_dump(exclude_defaults=True), *request.hyper().given()}
    return tuple(sorted(given - TAKES - {"n_epochs", "learning_rate_multiplier"}))
