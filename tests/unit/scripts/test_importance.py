"""Whether an importance matrix is of a model: by names, columns and layers, with the exact message."""

from pathlib import Path

import numpy
import pytest
from gguf import GGUFWriter

import importance
from corral.errors import InvalidModel

LAYERS, COLUMNS = 12, 64


def weights(layer: int) -> str:
    return f"blk.{layer}.attn_q.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return written(tmp_path / "m.gguf", {weights(n): (8, COLUMNS) for n in range(LAYERS)})


def written(path: Path, tensors: dict[str, tuple[int, int]], type: str = "model") -> Path:
    """A GGUF of these F32 tensors, rows and columns."""
    writer = GGUFWriter(path, "llama")
    writer.add_type(type)
    for name, shape in tensors.items():
        writer.add_tensor(name, numpy.ones(shape, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def imatrix(folder: Path, layers: int = LAYERS, columns: int = COLUMNS) -> Path:
    sums = {f"{weights(n)}.in_sum2": (1, columns) for n in range(layers)}
    return written(folder / "i.gguf", sums, "imatrix")


def test_that_of_the_model_is_taken(model: Path, tmp_path: Path) -> None:
    assert importance.check(imatrix(tmp_path), model) == LAYERS
    # One layer in twelve: experts that the text never came to.
    assert importance.check(imatrix(tmp_path, LAYERS - 1), model) == LAYERS - 1


@pytest.mark.parametrize(
    ("layers", "columns", "why"),
    [
        (LAYERS, 32, "its `blk.0.attn_q.weight` has 32 columns, the model's 64"),
        (LAYERS + 1, COLUMNS, "it knows `blk.12.attn_q.weight`, which the model has not"),
        (LAYERS - 2, COLUMNS, "it knows 10 layers, the model has 12"),
    ],
)
def test_that_of_another_is_refused(
    model: Path, tmp_path: Path, layers: int, columns: int, why: str
) -> None:
    other = imatrix(tmp_path, layers, columns)
    with pytest.raises(InvalidModel) as refused:
        importance.check(other, model)
    assert refused.value.message == (
        f"the importance matrix {other} is of another model: {why}. Make one of m.gguf (leave "
        "--imatrix out), or give its own"
    )


def test_a_model_is_no_importance_matrix(model: Path) -> None:
    with pytest.raises(InvalidModel, match=r"m\.gguf is no importance matrix; llama-imatrix makes"):
        importance.check(model, model)
