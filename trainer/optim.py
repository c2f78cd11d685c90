"""The optimiser, and the groups of weights that it treats alike."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from trainer import optimizers
from trainer.optimizers import AnyOptimizer

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")


def make_optimizer(model: nn.Module, config: AnyOptimizer) -> torch.optim.Optimizer:
    """The optimiser over `groups` of the model."""
    made, lr = groups(model, config), config.learning_rate
    if isinstance(config, optimizers.AdamW):
        return torch.optim.AdamW(made, lr, (config.beta1, config.beta2), config.epsilon, fused=True)
    if isinstance(config, optimizers.Adam):
        return torch.optim.Adam(made, lr, (config.beta1, config.beta2), config.epsilon, fused=True)
    if isinstance(config, optimizers.NAdam):
        return torch.optim.NAdam(
            made,
            lr,
            (config.beta1, config.beta2),
            config.epsilon,
            momentum_decay=config.momentum_decay,
            decoupled_weight_decay=True,
        )
    if isinstance(config, optimizers.SGD):
        return torch.optim.SGD(made, lr, config.momentum, nesterov=config.nesterov)
    if isinstance(config, optimizers.Adagrad):
        return torch.optim.Adagrad(made, lr, eps=config.epsilon)
    if isinstance(config, optimizers.RMSProp):
        return torch.optim.RMSprop(
            made, lr, config.alpha, config.epsilon, momentum=config.momentum, centered=config.centered
        )
    return torch.optim.Adafactor(
        made, lr, beta2_decay=config.beta2_decay, eps=(None, config.relative), d=config.update_clip
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate, of which each group takes its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def groups(model: nn.Module, config: AnyOptimizer) -> list[dict[str, Any]]:
    """Groups of weights for an optimiser, each with `params`, `weight_decay`, and the `scale` of its learning rate.

    Those that decay come first, deeper layers before higher ones.
    """
    spared, top = _spared(model, config), 1 + _blocks(model)
    found: dict[tuple[bool, int], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            depth = _depth(name, top) if config.layer_rates != 1 else top
            found.setdefault((id(weight) in spared, depth), []).append(weight)
    return [
        {
            "params": weights,
            "weight_decay": 0.0 if plain else config.weight_decay,
            "scale": config.layer_rates ** (top - depth),
        }
        for (plain, depth), weights in sorted(found.items(), key=lambda item: item[0])
    ]


def _spared(model: nn.Module, config: AnyOptimizer) -> set[int]:
    """The weights that do not decay, tied ones by whatever they are besides."""
    found = set()
    for module in model.modules():
        kind = "norms" if "Norm" in type(module).__name__ else "embeddings" if isinstance(module, nn.Embedding) else ""
        for name, weight in module.named_parameters(recurse=False):
            what = kind or ("biases" if name.endswith("bias") else "")
            if what in config.undecayed:
                found.add(id(weight))
    return found


def _blocks(model: nn.Module) -> int:
    numbers = [int(block[1]) for name, _ in model.named_parameters() if (block := _BLOCK.search(name))]
    return 1 + max(numbers, default=-1)


def _depth(name: str, top: int) -> int:
    """0 of embeddings, n of the n-th block, `top` of what stands behind the blocks."""
    block = _BLOCK.search(name)
    return int(block[1]) + 1 if block else 0 if "embedding" in name else top
