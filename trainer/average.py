"""A running mean of the weights, kept in fp32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from trainer.model import Model
from trainer.parallel.divide import Divided
from trainer.parallel.state import buffers_of, set_buffers, set_weights, weights_of
from trainer.parallel.world import World


class Average:
    """The exponential moving average of a model's weights (Polyak and Juditsky 1992); it begins with those behind the
    first step. PyTorch's own keeps it in the weights' type: in bf16 most steps of a mean are lost."""

    def __init__(self, model: Model, decay: float, world: World, stages: Sequence[range] = ()) -> None:
        """Of a model that is whole; the mean is divided among processes as the model will be."""
        mean = copy.deepcopy(model).requires_grad_(False)
        if any(weight.dtype == torch.bfloat16 for weight in mean.parameters()):
            mean = mean.float()
        self.divided = Divided(mean, world, stages)
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, divided: Divided) -> None:
        """Takes the weights as they are now into the mean; what is no weight is as it is now."""
        share = 1 - self._decay if self._steps else 1.0
        for mean, weight in zip(self.divided.weights.all, divided.weights.all, strict=True):
            mean.here.lerp_(weight.here.to(mean.here.dtype), share)
        for kept, now in zip(self.divided.models, divided.models, strict=True):
            for buffer, other in zip(kept.buffers(), now.buffers(), strict=True):
                buffer.copy_(other)
        self._steps += 1
        self.divided.let_go()

    def state_dict(self) -> dict[str, Any]:
        """Weights, and how many steps are in them."""
        weights, buffers = weights_of(self.divided.weights), buffers_of(self.divided.models)
        return {"model": weights | buffers, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that up again."""
        set_weights(self.divided.weights, state["model"])
        set_buffers(self.divided.models, state["model"])
        self._steps = state["steps"]
        self.divided.let_go()
