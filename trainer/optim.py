"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from trainer.config import OptimizerConfig, ScheduleConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW in two groups: matrices decay, norms, biases and embeddings (tied heads too) do not."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    decayed = [weight for weight in weights if weight.ndim >= 2 and id(weight) not in embeddings]
    plain = [weight for weight in weights if weight.ndim < 2 or id(weight) in embeddings]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def rate(step: int, steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """The learning rate of step `step` (1 .. steps): linear warm-up to `peak`, then a half cosine to its floor.

    A function of the step alone, so a resume needs no state of it.
    """
    if step <= schedule.warmup:
        return peak * step / schedule.warmup
    share = (step - schedule.warmup) / (steps - schedule.warmup)
    return peak * (schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * share)) / 2)
