"""How much memory a model takes: arithmetic on a header, checked against known models by hand."""

from dataclasses import replace

import pytest

from corral.errors import BadRequest
from corral.registry.fit import (
    BATCH,
    GIB,
    HEADROOM,
    MIB,
    PROCESS,
    Candidate,
    Need,
    Place,
    Shape,
    best,
    compute_bytes,
    kv_cache_bytes,
    layers_that_fit,
    need_of,
)
from corral.registry.fit_training import activation_bytes, training
from corral.registry.gguf_header import Header, Number, Tensor
from corral.registry.gpus import GIGABYTES, named_gpu

F16 = 1


WINDOW = {"attention.sliding_window": 1024}


def shape(
    architecture: str = "llama",
    more: dict[str, int] | None = None,
    arrays: dict[str, tuple[Number, ...]] | None = None,
) -> Shape:
    """Llama 3 8B's shape, with `more` metadata and two of its layers' tensors."""
    numbers = {
        "block_count": 32, "embedding_length": 4096, "feed_forward_length": 14336,
        "attention.head_count": 32, "attention.head_count_kv": 8,
    }  # fmt: skip
    numbers |= more or {}
    tensors = (
        Tensor("token_embd.weight", (4096, 1000), F16, 2 * 4096 * 1000),
        Tensor("blk.0.attn_q.weight", (4096, 4096), F16, 2 * 4096 * 4096),
        Tensor("blk.0.attn_norm.weight", (4096,), 0, 4 * 4096),
        Tensor("blk.1.ffn_down.weight", (14336, 4096), F16, 2 * 14336 * 4096),
    )
    return Shape(
        [
            Header(
                version=3,
                metadata={"general.architecture": architecture}
                | {f"{architecture}.{key}": value for key, value in numbers.items()},
                array_lengths={"tokenizer.ggml.tokens": 1000},
                tensor_count=len(tensors),
                size=1,
                arrays={f"{architecture}.{key}": value for key, value in (arrays or {}).items()},
                tensors=tensors,
            )
        ]
    )


def test_the_cache_of_a_known_model_is_what_everyone_knows_it_to_be() -> None:
    assert kv_cache_bytes(shape(), 8192, 1) == 1 * GIB
    assert kv_cache_bytes(shape(), 8192, 4) == 4 * GIB


def test_the_cache_is_rounded_up_as_llama_cpp_rounds_it() -> None:
    assert kv_cache_bytes(shape(), 300, 1) == kv_cache_bytes(shape(), 512, 1)
    assert kv_cache_bytes(shape(), 512, 1) < kv_cache_bytes(shape(), 513, 1)


def test_heads_may_differ_from_layer_to_layer() -> None:
    uneven = shape(arrays={"attention.head_count_kv": (8,) * 16 + (0,) * 16})
    assert kv_cache_bytes(uneven, 8192, 1) == GIB // 2


def test_layers_with_a_window_keep_no_more_than_it_and_a_batch() -> None:
    whole, kept = 16_384, 1024 + BATCH
    row = 2 * 8 * (128 + 128)
    gemma3 = shape("gemma3", WINDOW)
    assert kv_cache_bytes(gemma3, whole, 1) == row * (5 * whole + 27 * kept)
    flags: dict[str, tuple[Number, ...]] = {
        "attention.sliding_window_pattern": (True,) * 8 + (False,) * 24
    }
    named = shape("llama", WINDOW, flags)
    assert kv_cache_bytes(named, whole, 1) == row * (24 * whole + 8 * kept)
    assert kv_cache_bytes(shape("llama", WINDOW), whole, 1) == row * 32 * whole


def test_one_compressed_key_for_all_heads_has_no_values() -> None:
    deepseek = shape(
        "deepseek2",
        {
            "attention.head_count_kv": 1, "attention.key_length": 576,
            "attention.value_length": 512, "attention.kv_lora_rank": 512,
        },
    )  # fmt: skip
    assert kv_cache_bytes(deepseek, 1024, 1) == 2 * 32 * 1024 * 576


def test_compute_grows_with_the_context_by_its_mask_alone() -> None:
    few, many = compute_bytes(shape(), 1024), compute_bytes(shape(), 2048)
    assert many - few == 1024 * BATCH * 2
    assert 100 * MIB < few < 150 * MIB


def test_experts_count_as_many_as_are_used() -> None:
    experts = shape(
        "llama", {"expert_count": 64, "expert_used_count": 8, "expert_feed_forward_length": 1024}
    )
    assert compute_bytes(experts, 1024) < compute_bytes(shape(), 1024)


def test_need_adds_up() -> None:
    need = need_of(shape(), 1024, 2)
    assert need.weights == shape().weights
    assert need.total == need.weights + need.kv_cache + need.compute + PROCESS


CANDIDATES = [
    Candidate("F32", 16 * GIB), Candidate("F16", 8 * GIB), Candidate("Q8_0", 4 * GIB),
    Candidate("Q4_K_M", 2 * GIB),
]  # fmt: skip
NEED = Need(weights=8 * GIB, kv_cache=1 * GIB, compute=0, process=0)


@pytest.mark.parametrize(
    ("free", "taken"),
    [(32, "F16"), (10, "F16"), (9.9, "Q8_0"), (6, "Q8_0"), (5.9, "Q4_K_M"), (3.9, None)],
)
def test_the_best_that_leaves_headroom_is_taken(free: float, taken: str | None) -> None:
    place = Place("GPU", 64 * GIB, int(free * GIB))
    found = best(CANDIDATES, NEED, place)
    assert (found.type if found else None) == taken


def test_f32_is_taken_only_where_there_is_nothing_else() -> None:
    found = best(CANDIDATES[:1], NEED, Place("RAM", 64 * GIB, 64 * GIB))
    assert found is not None
    assert found.type == "F32"


def test_some_layers_fit_where_all_do_not() -> None:
    need = Need(weights=0, kv_cache=GIB, compute=0)
    blocks = sum(t.bytes for t in shape().tensors if t.name.startswith("blk.")) + GIB
    half = Place("GPU", 8 * GIB, HEADROOM + blocks // 2)
    assert layers_that_fit(shape(), need, half) == 16
    assert layers_that_fit(shape(), need, replace(half, free=GIB // 2)) == 0
    assert layers_that_fit(shape(), need, replace(half, free=99 * GIB)) == 32


# ---- training ----------------------------------------------------------------------------------

MATRICES = 4096 * 4096 + 14336 * 4096
OTHERS = 4096 * 1000 + 4096


def test_full_training_takes_sixteen_bytes_for_each_parameter() -> None:
    full, _, _ = training(shape(), 1024)
    assert full.trained == MATRICES + OTHERS
    assert full.total - full.activations == 16 * full.trained


def test_lora_trains_rank_times_both_sides_of_each_matrix_and_freezes_the_rest() -> None:
    _, lora, _ = training(shape(), 1024, rank=8)
    assert lora.trained == 8 * (4096 + 4096) + 8 * (14336 + 4096)
    assert lora.total - lora.activations == 2 * (MATRICES + OTHERS) + 16 * lora.trained


def test_qlora_stores_the_matrices_alone_in_four_bits() -> None:
    _, _, qlora = training(shape(), 1024, rank=8)
    frozen = qlora.weights - 2 * qlora.trained
    assert frozen == pytest.approx(MATRICES * 4.127 / 8 + 2 * OTHERS, abs=1)


def test_checkpointing_keeps_two_bytes_for_each_layer_and_one_layer_whole() -> None:
    logits = 8 * 1024 * 1000
    kept = activation_bytes(shape(), 1024, checkpointed=False)
    fewer = activation_bytes(shape(), 1024, checkpointed=True)
    assert kept == 34 * 32 * 1024 * 4096 + logits
    assert fewer == (2 * 32 + 34) * 1024 * 4096 + logits


# ---- named GPUs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("RTX 4090", 24), ("rtx-4090", 24), ("4090", 24), ("NVIDIA GeForce RTX 4090", 24),
        ("4060", 8), ("a100 80gb", 80), ("24GB", 24), ("0.5 GiB", 0.5), ("H200", 141),
    ],
)  # fmt: skip
def test_a_gpu_is_found_by_its_name_or_size(name: str, gigabytes: float) -> None:
    place = named_gpu(name)
    assert place.total == place.free == int(gigabytes * GIB)


@pytest.mark.parametrize("name", ["GTX 99", "", "nvidia", "0"])
def test_an_unknown_gpu_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        named_gpu(name)
    assert caught.value.message == (
        f"--gpu `{name}` is not in the table; give its memory (`--gpu 24GB`) or one of: "
        f"{', '.join(GIGABYTES)}"
    )
