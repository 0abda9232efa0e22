"""What goes wrong in training, said so that the reader knows what to change."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from corral.errors import CorralError, ToolError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_cpu")


class OutOfMemory(ToolError):
    """The machine or the accelerator has less memory than the training needs."""

    default_code = "out_of_memory"


class Diverged(ToolError):
    """The loss is no number any more; the weights are worthless."""

    default_code = "loss_not_finite"


def check_finite(loss: float, step: int, rate: float) -> None:
    """Raise Diverged when the loss, or the gradient's length, is NaN or infinite."""
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss is {loss} at step {step} (learning rate {rate:.2g}); nothing was kept. Lower the "
            "learning rate multiplier (a tenth is a good try), or look for rows of broken text"
        )


@contextmanager
def explained(device: str) -> Iterator[None]:
    """Turn what torch and the driver raise inside the block into errors that say what to do."""
    try:
        yield
    except CorralError:
        raise
    except MemoryError:
        raise _too_large(device, "no more memory") from None
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if any(words in said.lower() for words in _OUT_OF_MEMORY):
            raise _too_large(device, said) from None
        if "cuda" in said.lower() or "cublas" in said.lower() or "mps" in said.lower():
            raise ToolError(
                f"the device failed: {said}; start the job again to go on from its last checkpoint"
            ) from error
        raise


def _too_large(device: str, said: str) -> OutOfMemory:
    return OutOfMemory(
        f"out of memory on {device} ({said[:200]}). Lower, in this order: --micro-tokens, --max-length, --rank; "
        "or set --gradient-checkpointing on, or close other programs. The last checkpoint is kept"
    )
