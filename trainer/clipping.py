"""What is done to gradients between the backward pass and the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn


def clip(
    weights: Sequence[nn.Parameter],
    norm: float | None,
    value: float | None,
    adaptive: float | None,
    squared: Callable[[], Tensor] | None = None,
    outputs: Collection[int] = (),
) -> Tensor:
    """Clips gradients in place: each unit by the size of its weights, then each element, then all by their norm.

    Returns the global L2 norm (scalar) before any of it: what is not finite would be hidden behind it. `squared` gives
    its square where not all of the weights are here. `outputs`: the `id`s of weights of the output layer, whose units
    are not clipped (Brock et al. 2021, section 4.1).
    """
    squared = squared or (lambda: squared_norm(weights))
    total = left = torch.sqrt(squared())
    if adaptive is not None:
        clip_adaptively([weight for weight in weights if id(weight) not in outputs], adaptive)
    if value is not None:
        nn.utils.clip_grad_value_(weights, value)
    if norm is not None:
        if adaptive is not None or value is not None:
            left = torch.sqrt(squared())
        nn.utils.clip_grads_with_norm_(weights, norm, left)
    return total


@torch.no_grad()
def clip_adaptively(weights: Sequence[nn.Parameter], most: float, least: float = 1e-3) -> None:
    """Scales the gradient of each unit down to `most` times the norm of its weights, counted as `least` at least
    (Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4.1).

    A unit is a row of a matrix, all that makes one output; a vector is one.
    """
    for weight in weights:
        if weight.grad is None:
            continue
        size, slope = unit_norms(weight), unit_norms(weight.grad)
        allowed = size.clamp(min=least) * most
        weight.grad.mul_((allowed / slope.clamp(min=1e-6)).clamp(max=1.0))


def unit_norms(x: Tensor) -> Tensor:
    """L2 norm of each unit, of a shape that goes with x."""
    units: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(min(1, x.ndim - 1), x.ndim)), keepdim=True)
    return units


@torch.no_grad()
def penalise(weights: Sequence[nn.Parameter], l1: float, l2: float) -> None:
    """Adds the gradient of l1 · Σ|w| + l2 / 2 · Σw²."""
    for weight in weights:
        if weight.grad is not None:
            if l1:
                weight.grad.add_(weight.sign(), alpha=l1)
            if l2:
                weight.grad.add_(weight, alpha=l2)


@torch.no_grad()
def squared_norm(weights: Sequence[nn.Parameter]) -> Tensor:
    """Squared L2 norm (scalar) of all gradients together, in fp32 also where they are not."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if any(gradient.dtype not in (torch.float32, torch.float64) for gradient in gradients):
        return torch.stack([torch.linalg.vector_norm(g, dtype=torch.float32) for g in gradients]).square().sum()
    return nn.utils.get_total_norm(gradients).square()
