"""The adapter that a training begins with: a PEFT folder, or the GGUF that llama.cpp serves.

A GGUF has llama.cpp's names, and its order of rows: queries and keys are turned for the rotary
embedding. How those follow from PEFT's is asked of llama.cpp's own converter, for any architecture: it
converts an adapter whose numbers say where they stand.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_as_bytes
from torch import nn

import safe_files
from corral.errors import BadRequest, InvalidModel
from corral.registry.lora_header import Lora, read_lora
from engines import Task, adapter_gguf
from engines.hyperparameters import Hyperparameters

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What PEFT can do beside a plain LoRA, by the key of its configuration.
VARIANTS = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


@dataclass(frozen=True)
class Start:
    """Weights under PEFT's names; `targets` are the kinds of layer that have some."""

    targets: tuple[str, ...]
    tensors: dict[str, torch.Tensor]

    def load_into(self, model: Any) -> None:
        """Overwrite the model's fresh adapter; where a layer has no weights here it stays without effect."""
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
        for name, tensor in self.tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                raise _other_base(f"its {name}, {list(tensor.shape)}, has no place in this model")
        set_peft_model_state_dict(model, self.tensors)


def shaped(hyper: Hyperparameters, path: Path) -> Hyperparameters:
    """With rank and alpha of the adapter; BadRequest where others were asked for."""
    for name, there in shape_of(path)._asdict().items():
        given = getattr(hyper, name)
        if given not in (None, there):
            raise BadRequest(
                f"{name} is {given:g}, and the adapter to begin with has {there:g}; leave it out",
                param=name,
            )
        hyper = replace(hyper, **{name: there})
    return hyper


def shape_of(path: Path) -> Lora:
    """Rank and alpha; InvalidModel unless it is a plain LoRA."""
    if path.is_file():
        return read_lora(path)
    if not (path / WEIGHTS).is_file() or not (path / CONFIG).is_file():
        raise BadRequest(
            f"{path} is neither an adapter's GGUF nor a PEFT folder with {WEIGHTS} and {CONFIG}",
            param="start",
        )
    config = json.loads((path / CONFIG).read_text("utf-8"))
    found = [name for name in VARIANTS if config.get(name)]
    if found:
        raise InvalidModel(f"{path} is no plain LoRA: it has {', '.join(found)}", param="start")
    return Lora(int(config["r"]), float(config["lora_alpha"]))


def load(task: Task, base: Any, given: tuple[str, ...] = ()) -> Start:
    """The weights of `task.start`; a GGUF becomes a PEFT folder in the work folder first, once. BadRequest
    where layers other than its own are `given`. `work/base` must have the base's config.json."""
    assert task.start is not None
    folder = task.start
    if folder.is_file():
        folder = task.work / "start"
        if not (folder / WEIGHTS).is_file():
            _write_peft(task.start, folder, places(base, task))
    tensors = tensors_from((folder / WEIGHTS).read_bytes())
    targets = tuple(sorted({name.split(".")[-3] for name in tensors}))
    if given and set(given) != set(targets):
        raise BadRequest(
            f"targets are {', '.join(given)}, and the adapter to begin with has {', '.join(targets)}; leave "
            "them out",
            param="targets",
        )
    return Start(targets, tensors)


def _write_peft(path: Path, folder: Path, known: dict[str, "Place"]) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    found = dict[str, torch.Tensor]()
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        a, b = (
            gguf.dequantize(tensors[name].data, tensors[name].tensor_type).astype(np.float32)
            for name in (f"{layer}.lora_a", f"{layer}.lora_b")
        )
        place = known.get(layer)
        if place is None or not place.fits(a, b):
            raise _other_base(
                f"its {layer} is not a linear layer of this model, or of another size"
            )
        found |= place.as_peft(a, b)
    rank, alpha = read_lora(path)
    _write(folder, found, rank, alpha)


def _write(folder: Path, tensors: dict[str, torch.Tensor], rank: int, alpha: float) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha}
    config |= {"target_modules": sorted({name.split(".")[-3] for name in tensors}), "bias": "none"}
    with safe_files.room(folder):
        part.mkdir(parents=True)
    safe_files.write(part / CONFIG, json.dumps(config).encode())
    safe_files.write(part / WEIGHTS, tensors_as_bytes(tensors))
    part.replace(folder)


@dataclass(frozen=True)
class Place:
    """Where a layer of the GGUF stands in PEFT's model, and which of PEFT's inputs and outputs each of
    its own is."""

    module: str
    inputs: np.ndarray
    outputs: np.ndarray

    def fits(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether these matrices are of that layer's size."""
        return bool(a.shape[1:] == self.inputs.shape and b.shape[:1] == self.outputs.shape)

    def as_peft(self, a: np.ndarray, b: np.ndarray) -> dict[str, torch.Tensor]:
        """The GGUF's two matrices under PEFT's names, in its order."""
        turned = np.empty_like(a), np.empty_like(b)
        turned[0][:, self.inputs], turned[1][self.outputs] = a, b
        names = _names(self.module)
        return {n: torch.from_numpy(t) for n, t in zip(names, turned, strict=True)}


def places(base: Any, task: Task) -> dict[str, Place]:
    """Every linear layer that the converter keeps whole, by llama.cpp's name of its weight."""
    head = base.get_output_embeddings()
    layers = [
        (name, module.in_features, module.out_features)
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    folder, out = task.work / "places", task.work / "places.gguf"
    shutil.rmtree(folder, ignore_errors=True)
    probe = dict[str, torch.Tensor]()
    for number, (name, inputs, outputs) in enumerate(layers):
        # Of two ranks: the first says which input or output, the second which layer.
        which = [torch.arange(size, dtype=torch.float32) for size in (inputs, outputs)]
        both = [torch.stack([each, torch.full_like(each, number)]) for each in which]
        probe |= dict(zip(_names(name), (both[0], both[1].T.contiguous()), strict=True))
    _write(folder, probe, 2, 2)
    try:
        source = adapter_gguf.source_tree(task.llama_source)
        adapter_gguf.convert(folder, task.work / "base", out, source, outtype="f32")
        stored = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(out).tensors}
    finally:
        out.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    found = {}
    for name in (name.removesuffix(".lora_a") for name in stored if name.endswith(".lora_a")):
        inputs, outputs = (
            stored[f"{name}.lora_a"].astype(int),
            stored[f"{name}.lora_b"].T.astype(int),
        )
        if _is_order(inputs) and _is_order(outputs):
            found[name] = Place(layers[inputs[1, 0]][0], inputs[0], outputs[0])
    return found


def _is_order(probed: np.ndarray) -> bool:
    """Whether each of one layer's numbers is there once: a layer that was cut, joined or scaled is no order."""
    whole = np.array_equal(np.sort(probed[0]), np.arange(probed.shape[1]))
    return whole and len(set(probed[1])) == 1


def _names(module: str) -> tuple[str, str]:
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


def _other_base(why: str) -> BadRequest:
    return BadRequest(f"the adapter to begin with was made for another base: {why}", param="start")
