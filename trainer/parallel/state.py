"""Weights and moments as checkpoints hold them: by name, as parts of the whole where they are divided here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from trainer.offload import Offloaded
from trainer.optim import Joined, Optimizing
from trainer.parallel.local import Local, Weights
from trainer.precision import Rounded
from trainer.spread import Spread, mapped, spread

UNNAMED = ""
"""Where the state of an optimiser stands that is of no single weight."""


def divided(one: Local, here: Tensor) -> Tensor | Spread:
    """The numbers `here`, which lie beside those of a weight: as a part of the whole where the weight is divided."""
    here = here.detach()
    if not isinstance(one.whole, DTensor) or here.shape != one.here.shape:
        return here
    _, offsets = compute_local_shape_and_global_offset(one.whole.shape, one.whole.device_mesh, one.whole.placements)
    return Spread(tuple(one.whole.shape), ((tuple(offsets), here),))


def part(one: Local, full: Tensor | Spread) -> Tensor:
    """The numbers of a whole tensor that lie in this process beside those of a weight."""
    if not isinstance(one.whole, DTensor) or full.shape != one.whole.shape:
        return (full.whole() if isinstance(full, Spread) else full).to(one.here.device)
    sizes, offsets = compute_local_shape_and_global_offset(one.whole.shape, one.whole.device_mesh, one.whole.placements)
    return (full if isinstance(full, Spread) else spread(full)).cut(offsets, sizes).to(one.here.device)


def weights_of(weights: Weights) -> dict[str, Any]:
    """All weights that are here by name, in parts where they are divided."""
    return {one.name: divided(one, one.here) for one in weights.all}


@torch.no_grad()
def set_weights(weights: Weights, state: Mapping[str, Any]) -> None:
    """Takes what is here of them. Raises KeyError where one is missing."""
    for one in weights.all:
        one.here.copy_(part(one, state[one.name]))


def buffers_of(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """What is no weight but belongs to a model, by name."""
    return {name: buffer for model in models for name, buffer in _buffers(model)}


@torch.no_grad()
def set_buffers(models: Sequence[nn.Module], state: Mapping[str, Tensor]) -> None:
    """Takes it up again."""
    for model in models:
        for name, buffer in _buffers(model):
            buffer.copy_(state[name])


def _buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    kept = model.state_dict().keys()
    return ((name, buffer) for name, buffer in model.named_buffers() if name in kept)


def moments_of(optimizer: Optimizing, weights: Weights) -> dict[str, Any]:
    """What an optimiser remembers here, by the name of the weight and then as the optimiser calls it, in parts where
    the weight is divided."""
    found: dict[str, Any] = {}
    state, keys = optimizer.state_dict()["state"], _keys(optimizer, weights)
    for key, value in state.items():
        one = keys.get(key)
        if one is None:
            found.setdefault(UNNAMED, {})[key] = value
        else:
            found[one.name] = mapped(value, partial(divided, one))
    return found


def set_moments(optimizer: Optimizing, weights: Weights, state: Mapping[str, Any]) -> None:
    """Takes up again what is here of it; settings stay as they are."""
    own = dict(state.get(UNNAMED, {}))
    for key, one in _keys(optimizer, weights).items():
        if one.name in state:
            own[key] = mapped(state[one.name], partial(part, one))
    optimizer.load_state_dict(optimizer.state_dict() | {"state": own})


def _keys(optimizer: Optimizing, weights: Weights) -> dict[Any, Local]:
    """The weight that the optimiser knows by each of its numbers."""
    by_id = {id(one.here): one for one in weights.all}
    if isinstance(optimizer, Offloaded):
        by_id = {id(there): by_id[id(here)] for here, there in optimizer.pairs}
        optimizer = optimizer.inner
    elif isinstance(optimizer, Rounded):
        by_id = {id(whole): by_id[id(half)] for whole, half in optimizer.pairs}
        optimizer = optimizer.inner
    if isinstance(optimizer, Joined):
        return {
            (which, number): by_id[id(weight)]
            for which, own in enumerate(optimizer.parts)
            for number, weight in enumerate(_flat(own.param_groups))
        }
    return {number: by_id[id(weight)] for number, weight in enumerate(_flat(optimizer.param_groups))}


def _flat(groups: list[dict[str, Any]]) -> list[nn.Parameter]:
    return [weight for group in groups for weight in group["params"]]
