"""The optimiser, and the groups of weights that it treats alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from pipeline.errors import RecipeError, UserError
from trainer import optimizers
from trainer.optimizers import AnyOptimizer
from trainer.second_order import LBFGS, NewtonCG
from trainer.shampoo import Shampoo
from trainer.sophia import Sophia

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")
_ENCODER = "encoder."
"""What names of weights of an encoder beside a decoder begin with; its blocks are the deeper ones."""


class Optimizing(Protocol):
    """What the loop and its checkpoints need of an optimiser."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of weights, each with its rate under `lr`."""

    @property
    def step(self) -> Callable[..., Any]:
        """Moves the weights by their gradients. Those that need more take it as arguments: see `trainer.steps`."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers between steps, under `state`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that up again."""


class Joined:
    """Several optimisers over different weights, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Any, Any]:
        """What is remembered, by weight."""
        return {weight: state for part in self.parts for weight, state in part.state.items()}

    def step(self) -> None:
        """One of each."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of all weights."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The states of all, by the numbers of optimiser and weight."""
        states = {
            (number, weight): state
            for number, part in enumerate(self.parts)
            for weight, state in part.state_dict()["state"].items()
        }
        return {"state": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Into each its own; settings stay as they are."""
        for number, part in enumerate(self.parts):
            own = {weight: state for (of, weight), state in state_dict["state"].items() if of == number}
            part.load_state_dict(part.state_dict() | {"state": own})


class Counted:
    """An optimiser of pytorch_optimizer, which counts steps in its groups of settings, where a checkpoint does not
    look: here the counts are a part of the state, and what it copied of its settings is not."""

    def __init__(self, own: torch.optim.Optimizer) -> None:
        self._own = own

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Its own."""
        return self._own.param_groups

    @property
    def state(self) -> dict[Any, Any]:
        """What is remembered, by weight."""
        return self._own.state

    def step(self) -> None:
        """Moves the weights by their gradients."""
        self._own.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        self._own.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of each weight, its count of steps beside it."""
        counts = [group.get("step", 0) for group in self.param_groups for _ in group["params"]]
        state = self._own.state_dict()["state"]
        return {"state": {number: own | {COUNT: counts[number]} for number, own in state.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that up again; settings stay as they are."""
        saved = state_dict["state"]
        own = {number: {key: one[key] for key in one if key != COUNT} for number, one in saved.items()}
        self._own.load_state_dict(self._own.state_dict() | {"state": own})
        placed = [(group, weight) for group in self.param_groups for weight in group["params"]]
        for number, (group, weight) in enumerate(placed):
            if number in saved:
                group["step"] = saved[number][COUNT]
            state = self._own.state.get(weight, {})
            state.update({key: group[key] for key in state if key in group})


COUNT = "steps of the group"


def make_optimizer(
    model: nn.Module,
    config: AnyOptimizer,
    made: list[dict[str, Any]] | None = None,
    inner: set[int] | None = None,
) -> Optimizing:
    """The optimiser over `groups` of the model, which is on its device already; or over those of what is here of it,
    of which the weights with these `id`s are `matrices`."""
    made, lr = groups(model, config) if made is None else made, config.learning_rate
    if isinstance(config, optimizers.Muon):
        if inner is None:
            names = matrices(model)
            inner = {id(weight) for name, weight in model.named_parameters() if name in names}
        return _muon(model, made, config, inner)
    if isinstance(config, optimizers.AdamW):
        return torch.optim.AdamW(made, lr, (config.beta1, config.beta2), config.epsilon, fused=_fused(model))
    if isinstance(config, optimizers.Adam):
        return torch.optim.Adam(made, lr, (config.beta1, config.beta2), config.epsilon, fused=_fused(model))
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
    if isinstance(config, optimizers.Adafactor):
        return torch.optim.Adafactor(
            made, lr, beta2_decay=config.beta2_decay, eps=(None, config.relative), d=config.update_clip
        )
    if isinstance(config, optimizers.Shampoo):
        return Shampoo(made, config)
    if isinstance(config, optimizers.SophiaG | optimizers.SophiaH):
        return Sophia(made, config)
    if isinstance(config, optimizers.LBFGS):
        return LBFGS(made, config)
    if isinstance(config, optimizers.NewtonCG):
        return NewtonCG(made, config)
    return _of_library(made, config)


def _of_library(made: list[dict[str, Any]], config: optimizers.Lion | optimizers.SOAP) -> Counted:
    try:
        import pytorch_optimizer  # takes two seconds
    except ModuleNotFoundError as error:  # torch alone was installed by hand
        raise UserError(
            f"optimizer.kind {config.kind} needs pytorch-optimizer; install it with `pip install 'corpusmill[train]'`"
        ) from error

    betas = (config.beta1, config.beta2)
    if isinstance(config, optimizers.Lion):
        return Counted(pytorch_optimizer.Lion(made, config.learning_rate, betas))
    return Counted(
        pytorch_optimizer.SOAP(
            made,
            config.learning_rate,
            betas,
            shampoo_beta=config.beta2,
            precondition_frequency=config.interval,
            max_precondition_dim=config.max_dimension,
            eps=config.epsilon,
        )
    )


def _fused(model: nn.Module) -> bool | None:
    """Whether Adam is one kernel: where PyTorch surely has it. None: by PyTorch's choice."""
    return True if all(weight.device.type in ("cpu", "cuda") for weight in model.parameters()) else None


def matrices(model: nn.Module) -> set[str]:
    """Names of the matrices in blocks."""
    return {name for name, weight in model.named_parameters() if weight.ndim == 2 and _BLOCK.search(name)}


def _muon(model: nn.Module, made: list[dict[str, Any]], config: optimizers.Muon, inner: set[int]) -> Joined:
    if not inner:
        raise RecipeError("optimizer.kind muon: the model has no matrices in blocks, which it is for; take adamw")

    def those(inside: bool) -> list[dict[str, Any]]:
        chosen = [group | {"params": [w for w in group["params"] if (id(w) in inner) is inside]} for group in made]
        return [group for group in chosen if group["params"]]

    muon = torch.optim.Muon(
        those(True),
        config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        ns_steps=config.iterations,
        adjust_lr_fn="match_rms_adamw",
    )
    if not (others := those(False)):  # a pipeline stage in the middle, without norms
        return Joined(muon)
    betas = config.beta1, config.beta2
    return Joined(muon, torch.optim.AdamW(others, config.learning_rate, betas, config.epsilon, fused=_fused(model)))


def set_rate(optimizer: Optimizing, rate: float) -> None:
    """Sets the learning rate, of which each group takes its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def groups(model: nn.Module, config: AnyOptimizer) -> list[dict[str, Any]]:
    """Groups of weights for an optimiser, each with `params`, `weight_decay`, and the `scale` of its learning rate.

    Those that decay come first, deeper layers before higher ones. Decay is per unit of learning rate: where muP scales
    the rate it is scaled the other way, so that weights fade as fast at every width.
    """
    spared, below = _spared(model, config), _blocks(model, inside_encoder=True)
    top = 1 + below + _blocks(model, inside_encoder=False)
    scales: dict[str, float] = getattr(model, "rate_scales", dict)()
    found: dict[tuple[bool, int, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            depth = _depth(name, top, below) if config.layer_rates != 1 else top
            found.setdefault((id(weight) in spared, depth, scales.get(name, 1.0)), []).append(weight)
    return [
        {
            "params": weights,
            "weight_decay": 0.0 if plain else config.weight_decay / scale,
            "scale": config.layer_rates ** (top - depth) * scale,
        }
        for (plain, depth, scale), weights in sorted(found.items(), key=lambda item: item[0])
    ]


def decaying(model: nn.Module, config: AnyOptimizer) -> list[nn.Parameter]:
    """The weights that decay, and that penalties act on."""
    spared = _spared(model, config)
    return [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in spared]


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


def _blocks(model: nn.Module, inside_encoder: bool) -> int:
    names = [name for name, _ in model.named_parameters() if name.startswith(_ENCODER) is inside_encoder]
    return 1 + max((int(block[1]) for name in names if (block := _BLOCK.search(name))), default=-1)


def _depth(name: str, top: int, below: int) -> int:
    """0 of embeddings, n of the n-th block, `top` of what stands behind the blocks; `below` blocks are an encoder's,
    whose last norm is of the depth of the last of them."""
    block = _BLOCK.search(name)
    if block:
        return int(block[1]) + 1 + (0 if name.startswith(_ENCODER) else below)
    return 0 if "embedding" in name else below if name.startswith(_ENCODER) else top
