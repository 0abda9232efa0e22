"""The types in llama-quantize's help, and how they are found by name."""

import pytest

from corral.errors import BadRequest, ToolError
from corral.registry.quant_types import parse_help

HELP = """ allowed quantization types
   2  or  Q4_0    :  4.34G, +0.4685 ppl @ Llama-3-8B
  38  or  MXFP4_MOE :  MXFP4 MoE
  12  or  Q3_K    : alias for Q3_K_M
  22  or  IQ3_XS  :  3.3 bpw quantization
  12  or  Q3_K_M  :  3.74G, +0.6569 ppl @ Llama-3-8B
  15  or  Q4_K_M  :  4.58G, +0.1754 ppl @ Llama-3-8B
   7  or  Q8_0    :  7.96G, +0.0026 ppl @ Llama-3-8B
   0  or  F32     : 26.00G              @ 7B
          COPY    : only copy tensors, no quantizing
"""


def test_types_are_those_of_the_help_without_aliases_and_copy() -> None:
    assert parse_help(HELP).names() == [
        "Q4_0", "MXFP4_MOE", "IQ3_XS", "Q3_K_M", "Q4_K_M", "Q8_0", "F32",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "found"), [("q4_k_m", "Q4_K_M"), ("Q3_K", "Q3_K_M")])
def test_case_and_aliases(name: str, found: str) -> None:
    assert parse_help(HELP).find(name).name == found


def test_an_unknown_type_names_near_ones_and_all() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_help(HELP).find("Q4KM")
    assert caught.value.message == (
        "unknown quantisation type `Q4KM`; did you mean `Q4_K_M` or `Q3_K_M` or `Q4_0`? "
        "There are: Q4_0, MXFP4_MOE, IQ3_XS, Q3_K_M, Q4_K_M, Q8_0, F32"
    )


@pytest.mark.parametrize(
    ("name", "stored"),
    [("Q4_K_M", "Q4_K"), ("IQ3_XS", "IQ3_S"), ("MXFP4_MOE", "MXFP4"), ("Q8_0", "Q8_0")],
)
def test_the_tensor_type_that_a_name_stands_for(name: str, stored: str) -> None:
    assert parse_help(HELP).find(name).tensor_type == stored


def test_a_help_without_types_is_an_error() -> None:
    with pytest.raises(ToolError, match="lists no types"):
        parse_help("usage: something else")
