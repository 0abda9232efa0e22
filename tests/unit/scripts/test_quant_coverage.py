"""How much of a file has the type that it is called by."""

import pytest

from corral.errors import GateError
from corral.registry.gguf_header import Tensor
from corral.registry.quant_types import QuantType
from quant_coverage import check_name, compare

F32, Q5_0, Q8_0, Q4_K, Q6_K = 0, 6, 8, 12, 14
NORM = Tensor("blk.0.attn_norm.weight", (896,), F32, 0)


def matrix(name: str, columns: int, kind: int, rows: int = 1000) -> Tensor:
    return Tensor(f"{name}.weight", (columns, rows), kind, 0)


def test_the_mixture_of_a_type_counts_as_that_type() -> None:
    tensors = [
        matrix("blk.0.attn_q", 256, Q4_K),
        matrix("blk.0.attn_v", 256, Q6_K),
        matrix("token_embd", 256, Q8_0),
    ]
    found = compare(tensors, QuantType("Q4_K_M", 15))
    assert (found.covered, found.fallback) == (1.0, 0.0)
    check_name(found, "m")


def test_rows_that_do_not_divide_fell_back_and_such_a_file_is_not_called_so() -> None:
    tensors = [NORM, matrix("blk.0.attn_q", 896, Q5_0), matrix("blk.0.ffn_down", 256, Q4_K)]
    found = compare(tensors, QuantType("Q4_K_M", 15))
    assert found.fallback_tensors == 1
    assert found.fallback == pytest.approx(896_000 / 1_152_896)
    with pytest.raises(GateError) as caught:
        check_name(found, "m-Q4_K_M.gguf")
    assert caught.value.message == (
        "m-Q4_K_M.gguf cannot be called Q4_K_M: that type covers 22% of its weights, at least 50% "
        "are needed (stored: Q5_0 78%, Q4_K 22%, F32 0%; 1 tensors fell back because their rows do "
        "not divide into its blocks). Take a type with blocks of 32, such as Q8_0, Q5_1 or Q4_0"
    )
    assert caught.value.exit_code == 3


def test_overridden_tensors_are_not_of_the_named_type() -> None:
    tensors = [matrix("blk.0.attn_q", 256, Q4_K), matrix("blk.0.ffn_down", 256, Q6_K, 3000)]
    found = compare(tensors, QuantType("Q4_K_M", 15), ["FFN_down=q6_K"])
    assert (found.covered, found.fallback) == (0.25, 0.0)


def test_a_dense_model_is_no_mxfp4() -> None:
    found = compare([matrix("blk.0.attn_q", 256, Q8_0)], QuantType("MXFP4_MOE", 38))
    with pytest.raises(GateError, match="covers 0%"):
        check_name(found, "m")
