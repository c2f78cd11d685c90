"""Optimisers that evaluate the loss of a batch several times a step: L-BFGS (PyTorch's own), and Newton's method by
conjugate gradients.

P is the number of weights, which stand flat in one vector, in the order of the groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer import optimizers

Product = Callable[[Sequence[Tensor]], list[Tensor]]
"""A matrix of curvature times a vector, both one tensor a weight."""

SLOPE = 1e-2
"""Share of the slope by which the loss must fall at least (Armijo; Martens 2010, section 4.6, takes as much)."""
HALVINGS = 20
GAIN = 5e-4
"""Conjugate gradients end where the last k of them gained less than this, times k (Martens 2010, section 4.4)."""


class Closure(Protocol):
    """The loss of one batch as a function of the weights: equal weights, equal loss."""

    def __call__(self, backward: bool = True) -> Tensor:
        """The loss (scalar) at the weights as they are. With `backward`, `grad` of each is its gradient, no more."""


def penalised(closure: Closure, groups: Sequence[dict[str, Any]]) -> Closure:
    """The loss with half of each group's decay times its squared weights."""

    @torch.no_grad()
    def evaluated(backward: bool = True) -> Tensor:
        with torch.enable_grad():
            loss = closure(backward).detach()
        for group in groups:
            for weight in group["params"]:
                if backward and weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                if group["weight_decay"]:
                    loss = loss + group["weight_decay"] / 2 * weight.square().sum()
                    if backward:
                        weight.grad.add_(weight, alpha=group["weight_decay"])
        return loss

    return evaluated


class LBFGS:
    """PyTorch's L-BFGS, which knows one group alone, over the loss with the penalties of ours."""

    def __init__(self, groups: list[dict[str, Any]], config: optimizers.LBFGS) -> None:
        self._groups = groups
        self._own = torch.optim.LBFGS(
            [weight for group in groups for weight in group["params"]],
            config.learning_rate,
            max_iter=config.iterations,
            max_eval=5 * config.iterations,  # a line search seldom takes more than two; PyTorch's 5/4 cuts it short
            history_size=config.history,
            line_search_fn=None if config.line_search == "none" else config.line_search,
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """One, of all weights."""
        return self._own.param_groups

    def step(self, closure: Closure) -> None:
        """As many iterations as are set, over one batch. At a rate of 0, by which PyTorch's line search would divide,
        none."""
        if not self.param_groups[0]["lr"]:
            return
        self._own.step(penalised(closure, self._groups))  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        self._own.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's."""
        return self._own.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes that up again."""
        self._own.load_state_dict(state_dict)


class NewtonCG(torch.optim.Optimizer):
    """Hessian-free optimisation (Martens 2010), without his preconditioner.

    It keeps the damping, and of each weight the solution of the step before.
    """

    def __init__(self, groups: list[dict[str, Any]], config: optimizers.NewtonCG) -> None:
        super().__init__(groups, {"lr": config.learning_rate})
        self.config = config

    @property
    def weights(self) -> list[Tensor]:
        """All weights, in the order in which a product takes its vector."""
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def step(self, closure: Closure, product: Product) -> None:  # type: ignore[override]
        """One step over one batch; `product` is with the curvature of its loss. Where no length lowers the loss, the
        weights stay."""
        closure = penalised(closure, self.param_groups)
        weights = self.weights
        decay_P: Tensor = flat([torch.full_like(w, g["weight_decay"]) for g in self.param_groups for w in g["params"]])
        common = self.state[weights[0]]
        damping = common.setdefault("damping", self.config.damping)
        before = closure().item()
        gradient_P = flat([weight.grad for weight in weights if weight.grad is not None])

        if not gradient_P.any():  # a batch without targets
            return

        def damped(v_P: Tensor) -> Tensor:
            with torch.enable_grad():
                curved = product(parts(v_P, weights))
            result: Tensor = flat(curved) + (decay_P + damping) * v_P
            return result

        start_P = flat([self.state[weight].get("solution", torch.zeros_like(weight)) for weight in weights])
        x_P, model = conjugate_gradients(damped, -gradient_P, self.config.restart * start_P, self.config.iterations)
        for weight, part in zip(weights, parts(x_P, weights), strict=True):
            self.state[weight]["solution"] = part.clone()
        slope = gradient_P.dot(x_P).item()
        if not slope < 0:  # along negative curvature, or of a gradient of 0
            x_P, slope, model = -gradient_P, -gradient_P.dot(gradient_P).item(), math.nan

        here = [weight.clone() for weight in weights]

        def loss_at(length: float) -> float:
            for weight, old, part in zip(weights, here, parts(x_P, weights), strict=True):
                weight.copy_(old + length * part)
            return float(closure(backward=False))

        # How the loss changes, over how its quadratic model (without the damping) says it would.
        expected = model - damping / 2 * x_P.dot(x_P).item()
        ratio = (loss_at(1.0) - before) / expected if expected < 0 else -math.inf
        common["damping"] = damping * (2 / 3 if ratio > 0.75 else 1 if ratio >= 0.25 else 3 / 2)

        rate = self.param_groups[0]["lr"]
        for halvings in range(HALVINGS):
            length = rate / 2**halvings
            if loss_at(length) <= before + SLOPE * length * slope:  # false where it is no number
                return
        for weight, old in zip(weights, here, strict=True):
            weight.copy_(old)


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], b_P: Tensor, start_P: Tensor, iterations: int
) -> tuple[Tensor, float]:
    """An x (P,) of low q(x) = xᵀAx/2 - bᵀx, and q(x) (Hestenes and Stiefel 1952); where A is positive, near A x = b.

    Begins with `start_P` where q is lower there than at 0. Ends early by Martens's rule, or where a direction's
    curvature is not positive; then x may be 0.
    """
    x_P, r_P = torch.zeros_like(b_P), b_P.clone()
    if start_P.any():
        r_P = b_P - matrix(start_P)
        x_P = start_P.clone()
        if (b_P + r_P).dot(x_P) <= 0:  # q = -(b + r)ᵀx / 2
            x_P, r_P = torch.zeros_like(b_P), b_P.clone()
    values, direction_P, square = [], r_P.clone(), r_P.dot(r_P).item()
    enough = torch.finfo(b_P.dtype).eps ** 2 * b_P.dot(b_P).item()
    for done in range(1, iterations + 1):
        if square <= enough:
            break
        moved_P = matrix(direction_P)
        curvature = direction_P.dot(moved_P).item()
        if not curvature > 0:
            break
        length = square / curvature
        x_P += length * direction_P
        r_P -= length * moved_P
        values.append(-(b_P + r_P).dot(x_P).item() / 2)
        window = max(10, done // 10)
        if done > window and values[-1] < 0 and (values[-1] - values[-1 - window]) / values[-1] < window * GAIN:
            break
        square, last = r_P.dot(r_P).item(), square
        direction_P = r_P + square / last * direction_P
    return x_P, -(b_P + r_P).dot(x_P).item() / 2


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """(P,): all of them, one behind the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def parts(vector_P: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The vector, cut and shaped as the weights are; views of it."""
    cut = torch.split(vector_P, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(cut, weights, strict=True)]
