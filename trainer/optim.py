"""The optimiser."""

from __future__ import annotations

import torch
from torch import nn

from trainer.config import OptimizerConfig


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
