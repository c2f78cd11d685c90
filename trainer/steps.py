"""One step of any optimiser, with what it needs besides the gradient: curvature now and then, or the loss of the batch
as a function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer import devices, optimizers
from trainer.batch import Batch
from trainer.clipping import penalise
from trainer.config import TrainConfig
from trainer.curvature import Sample, gauss_newton_bartlett, gauss_newton_products, hessian_products, hutchinson
from trainer.losses import LossOf
from trainer.model import Model
from trainer.optim import Optimizing, decaying
from trainer.second_order import LBFGS, Closure, NewtonCG, Product
from trainer.sophia import Sophia


def take_step(
    optimizer: Optimizing, losses: LossOf, batch: Batch, config: TrainConfig, step: int, micro: int, parts: int = 1
) -> None:
    """Moves the weights, whose gradients over `batch`, read in micro-batches of `micro` rows, are there. Each sequence
    has `parts` rows.

    All that is drawn is a function of `config.seed` and of the training step; torch's generators and the model's
    buffers are left as they are.
    """
    settings = config.optimizer
    if isinstance(settings, optimizers.Sophia):
        assert isinstance(optimizer, Sophia)
        if (step - 1) % settings.interval == 0:
            still = Still(losses.model)
            sample = sample_of(losses, batch, parts * (settings.curvature_sequences or micro // parts), micro)
            estimate = hutchinson if isinstance(settings, optimizers.SophiaH) else gauss_newton_bartlett
            optimizer.update_curvature(estimate(sample, optimizer.weights, f"curvature {config.seed} {step}"))
            still.restore()
        optimizer.step()
    elif isinstance(settings, optimizers.SecondOrder):
        still = Still(losses.model)
        penalties = config.loss.l1, config.loss.l2
        penalised = decaying(losses.model, settings) if any(penalties) else []
        closure = batch_loss(losses, batch, micro, still, penalised, *penalties)
        if isinstance(settings, optimizers.LBFGS):
            assert isinstance(optimizer, LBFGS)
            optimizer.step(closure)
        else:
            assert isinstance(optimizer, NewtonCG)
            sample = sample_of(losses, batch, parts * (settings.curvature_sequences or len(batch.tokens_BT)), micro)
            optimizer.step(closure, products(sample, optimizer.weights, settings.curvature, still))
        still.restore()
    else:
        optimizer.step()


def sample_of(losses: LossOf, batch: Batch, rows: int, micro: int) -> Sample:
    """So many of the batch's rows, or all where it has fewer."""
    return Sample(losses.model, batch, min(rows, len(batch.tokens_BT)), micro, losses.amp)


class Still:
    """Torch's generators and a model's buffers as they are now, to be had again: what an evaluation draws is the same
    each time, and what it counts (the load of experts, running means of a norm) does not add up."""

    def __init__(self, model: Model) -> None:
        self._device = next(model.parameters()).device
        self._random = devices.random_state(self._device)
        self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """As it was."""
        devices.set_random_state(self._device, self._random)
        for buffer, before in self._buffers:
            buffer.copy_(before)


def batch_loss(
    losses: LossOf,
    batch: Batch,
    micro: int,
    still: Still,
    penalised: Sequence[torch.nn.Parameter] = (),
    l1: float = 0.0,
    l2: float = 0.0,
) -> Closure:
    """The mean loss over a batch, with what the model adds to it and l1 · Σ|w| + l2 / 2 · Σw² of the penalised weights,
    as a function of the weights."""
    weight = next(losses.model.parameters())

    def closure(backward: bool = True) -> Tensor:
        still.restore()
        total = torch.zeros((), dtype=weight.dtype, device=weight.device)
        if backward:
            losses.model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(backward):
            for first in range(0, len(batch.tokens_BT), micro):
                found = losses(batch, slice(first, first + micro))
                loss = found.share_of(batch.targets, len(batch.tokens_BT))
                if backward:
                    loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        if l1 or l2:
            for one in penalised:
                total += l1 * one.detach().abs().sum() + l2 / 2 * one.detach().square().sum()
            if backward:
                penalise(penalised, l1, l2)
        return total

    return closure


def products(sample: Sample, weights: list[Tensor], curvature: optimizers.Curvature, still: Still) -> Product:
    """Of the curvature of the sample's loss with a vector."""
    kind = gauss_newton_products if curvature == "gauss_newton" else hessian_products

    def product(vectors: Sequence[Tensor]) -> list[Tensor]:
        still.restore()
        return kind(sample, weights, vectors)

    return product
