"""PEFT's LoRA linear layer with the same result in fewer passes over memory.

PEFT computes `base(x) + B(A(dropout(x))) * scale` as six operations that each read and write a whole
activation, casts x to float32 and keeps what autograd asks for. Here the product with B is added in
place (BLAS), the input is cast once, and only it and the [tokens, rank] product are kept.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import nn

_ADAPTER = "default"


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]
    """x·Wᵀ + scale·(x·Aᵀ)·Bᵀ for x of shape [n, in]; W is frozen and has no bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        down, up = a.to(x.dtype), b.to(x.dtype)
        inner = x @ down.t()
        result = x @ weight.t()
        result.addmm_(inner, up.t(), alpha=scale)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, weight, down, up, inner = ctx.saved_tensors
        grad_inner = (grad @ up).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            grad_x.addmm_(grad_inner, down)
        grad_a = (grad_inner.t() @ x).float()
        grad_b = (grad.t() @ inner).float().mul_(ctx.scale)
        return grad_x, None, grad_a, grad_b, None


def _forward(self: Linear, x: torch.Tensor, *_args: Any, **_options: Any) -> torch.Tensor:
    weight = self.base_layer.weight
    flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    if self.disable_adapters:
        made = nn.functional.linear(flat, weight)
    else:
        made = _LoraProduct.apply(
            flat,
            weight,
            self.lora_A[_ADAPTER].weight,
            self.lora_B[_ADAPTER].weight,
            self.scaling[_ADAPTER],
        )
    return made.view(*x.shape[:-1], -1)


def replaces(layer: nn.Module) -> bool:
    """Whether the layer is one that this computes: plain, one adapter, no bias, no dropout, no variant."""
    return (
        type(layer) is Linear
        and type(layer.base_layer) is nn.Linear
        and layer.base_layer.bias is None
        and list(layer.lora_A) == [_ADAPTER]
        and isinstance(layer.lora_dropout[_ADAPTER], nn.Identity)
        and layer.lora_A[_ADAPTER].bias is None
        and not layer.lora_variant
        and not layer.fan_in_fan_out
    )


def install(model: nn.Module) -> int:
    """Use it in every layer of the model where it fits; how many."""
    layers = [module for module in model.modules() if replaces(module)]
    for layer in layers:
        layer.forward = _forward.__get__(layer)
    return len(layers)
