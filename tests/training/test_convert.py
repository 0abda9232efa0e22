"""Converting a Hugging Face folder and a PEFT adapter: the GGUFs hold the very weights, and the tokens survive."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from gguf import GGUFReader

from tests.training.conftest import MODEL, run_stage
from tiny_tokenizer import place


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as transformers reads it, saved as safetensors, with its own tokenizer."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from engines.adapter_gguf import write_config

    folder = tmp_path_factory.mktemp("hf")
    options: dict[str, Any] = {"gguf_file": MODEL.name, "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(str(MODEL.parent), **options)
    tensors = {name: value for name, value in model.state_dict().items() if "lm_head" not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(model.config.to_dict(), "LlamaForCausalLM", folder)
    place(folder)
    return folder


def weights(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(numpy.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_becomes_the_model_it_is(
    hf_folder: Path, llama_source: Path, tmp_path: Path
) -> None:
    options = ["--name", "again", "--outtype", "f32", "--out", tmp_path]
    done = run_stage("convert_gguf.py", hf_folder, *options, "--llama-source", llama_source)
    assert done["token_differences"] == []
    assert done["texts_compared"] == 19
    assert_same_weights(tmp_path / "again.gguf", MODEL)
    assert (tmp_path / "again.manifest.json").is_file()


def changed(folder: Path, to: Path, **settings: Any) -> Path:
    """The folder with other settings of its tokenizer."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).symlink_to(file)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (to / "tokenizer_config.json").unlink()
    (to / "tokenizer_config.json").write_text(json.dumps(config | settings))
    return to


def test_a_tokenizer_that_differs_is_an_error_and_leaves_no_file(
    hf_folder: Path, llama_source: Path, tmp_path: Path
) -> None:
    folder = changed(hf_folder, tmp_path / "hf", additional_special_tokens=["brown fox"])
    out = tmp_path / "out"
    options = ["--name", "m", "--out", out, "--llama-source", llama_source]
    said = run_stage("convert_gguf.py", folder, *options, status=1)["error"]
    assert "1 of 21 checks differ; first text 'The quick brown fox" in said
    assert list(out.iterdir()) == []


def test_markers_that_transformers_cuts_are_judged_by_the_tokenizer_file(
    hf_folder: Path, llama_source: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    # Naming any special token makes transformers forget those of tokenizer.model.
    folder = changed(hf_folder, tmp_path / "hf", additional_special_tokens=["<think>"])
    theirs = AutoTokenizer.from_pretrained(folder)
    assert len(theirs("<|im_start|>", add_special_tokens=False)["input_ids"]) > 1
    options = ["--name", "m", "--out", tmp_path / "out", "--llama-source", llama_source]
    assert run_stage("convert_gguf.py", folder, *options)["token_differences"] == []


def test_an_adapter_becomes_the_adapter_that_training_published(
    hf_folder: Path, token_rows: Path, llama_source: Path, tmp_path: Path
) -> None:
    published = tmp_path / "published.gguf"
    fast = ["--batch-size", 8, "--rank", 8, "--epochs", 1, "--llama-source", llama_source]
    run_stage("finetune_lora.py", "--model", MODEL, "--rows", token_rows, "--out", published, *fast)
    adapter = published.with_suffix(".work") / "adapter"
    options = ["--name", "converted", "--base-name", "corral-tiny", "--base", hf_folder]
    options += ["--outtype", "f16", "--out", tmp_path, "--llama-source", llama_source]
    done = run_stage("convert_gguf.py", adapter, *options)
    assert done["kind"] == "adapter"
    assert_same_weights(tmp_path / "converted.gguf", published)
