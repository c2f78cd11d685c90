"""Curvature of the mean loss over a batch: estimates of its diagonal, and products with a vector.

N is the number of targets that are read, V the vocabulary, P the number of weights, flat, in the order of `weights`.
Rows are read in micro-batches, so memory does not grow with their number. All of it is of the cross entropy alone: what
an objective adds (a z-loss, a balance of experts) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.batch import IGNORED, Batch
from trainer.model import Inputs, Model
from trainer.numbers import wide
from trainer.permute import round_keys


class Sample(NamedTuple):
    """The first `rows` sequences of a batch, as a model sees them."""

    model: Model
    batch: Batch
    rows: int
    micro: int
    amp: AbstractContextManager[Any]

    @property
    def targets(self) -> int:
        """N, or 1 where there are none."""
        return max(1, int((self.batch.targets_BT[: self.rows] != IGNORED).sum()))

    def predictions(self, twice: bool) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each micro-batch that has targets: its first row, logits (N, V), in fp32 or fp64, with their graph,
        targets (N,). With `twice`, the graph can be differentiated twice."""
        device = next(self.model.parameters()).device
        for first in range(0, self.rows, self.micro):
            rows = slice(first, min(first + self.micro, self.rows))
            targets_BT = torch.from_numpy(self.batch.targets_BT[rows]).to(device)
            asked_BT = targets_BT != IGNORED
            if not bool(asked_BT.any()):
                continue
            with _twice(self.model) if twice else nullcontext(), self.amp:
                hidden_BTC, _ = self.model(Inputs.of(self.batch, rows, device))
                logits_NV = self.model.logits(hidden_BTC[asked_BT])
            yield first, wide(logits_NV), targets_BT[asked_BT]


@contextmanager
def _twice(model: Model) -> Iterator[None]:
    """No kernel that makes attention in one piece, since none has a second derivative, and nothing made anew."""
    config = model.config
    model.config = config.model_copy(update={"attention": "sdpa", "recompute": "none"})
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        model.config = config


def gauss_newton_bartlett(sample: Sample, weights: Sequence[Tensor], facts: str) -> list[Tensor]:
    """An unbiased estimate of the diagonal of the Gauss-Newton matrix, one tensor a weight (Liu et al. 2023,
    algorithm 2): N times the square of the mean gradient to labels drawn from the model's own predictions.

    The draw is a function of `facts` and of where a micro-batch begins.
    """
    sums = [torch.zeros_like(weight) for weight in weights]
    for first, logits_NV, _ in sample.predictions(twice=False):
        drawn_N = drawn(logits_NV.detach(), f"{facts} {first}")
        loss = F.cross_entropy(logits_NV, drawn_N, reduction="sum")
        _add(sums, torch.autograd.grad(loss, weights, allow_unused=True))
    return [total.square() / sample.targets for total in sums]


def hutchinson(sample: Sample, weights: Sequence[Tensor], facts: str) -> list[Tensor]:
    """An unbiased estimate of the diagonal of the Hessian, one tensor a weight (Liu et al. 2023, algorithm 1): a normal
    vector, drawn by `facts`, times its product with the Hessian."""
    generator = seeded(facts, weights[0].device)
    vectors = [
        torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device) for weight in weights
    ]
    return [
        vector * product for vector, product in zip(vectors, hessian_products(sample, weights, vectors), strict=True)
    ]


def hessian_products(sample: Sample, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """The Hessian of the mean loss times a vector, both one tensor a weight (Pearlmutter 1994), by two derivatives."""
    sums = [torch.zeros_like(weight) for weight in weights]
    for _, logits_NV, targets_N in sample.predictions(twice=True):
        loss = F.cross_entropy(logits_NV, targets_N, reduction="sum") / sample.targets
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        used = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g is not None and g.requires_grad]
        along = torch.autograd.grad([g for g, _ in used], weights, [v for _, v in used], allow_unused=True)
        _add(sums, along)
    return sums


def gauss_newton_products(sample: Sample, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """The Gauss-Newton matrix of the mean loss times a vector, both one tensor a weight (Schraudolph 2002): Jᵀ H J v,
    where J is the Jacobian of the logits and H the Hessian of the cross entropy in them, diag(p) - p pᵀ."""
    sums = [torch.zeros_like(weight) for weight in weights]
    for _, logits_NV, _ in sample.predictions(twice=True):
        # J v is the derivative of Jᵀ u in u, which is linear in it: so u's value does not matter.
        u_NV = torch.zeros_like(logits_NV, requires_grad=True)
        transposed = torch.autograd.grad(logits_NV, weights, u_NV, create_graph=True, allow_unused=True)
        used = [(g, v) for g, v in zip(transposed, vectors, strict=True) if g is not None]
        (moved_NV,) = torch.autograd.grad([g for g, _ in used], u_NV, [v for _, v in used], retain_graph=True)
        p_NV = logits_NV.detach().softmax(-1)
        curved_NV = p_NV * (moved_NV - (p_NV * moved_NV).sum(-1, keepdim=True)) / sample.targets
        _add(sums, torch.autograd.grad(logits_NV, weights, curved_NV, allow_unused=True))
    return sums


def drawn(logits_NV: Tensor, facts: str) -> Tensor:
    """(N,): a label for each row from the softmax of its logits, by Gumbel's maximum; a function of `facts`."""
    generator = seeded(facts, logits_NV.device)
    return (logits_NV - torch.empty_like(logits_NV).exponential_(generator=generator).log_()).argmax(-1)


def seeded(facts: str, device: torch.device) -> torch.Generator:
    """A generator whose numbers are a function of `facts` (and of the kind of device)."""
    generator = torch.Generator(device)
    generator.manual_seed(round_keys(facts)[0] >> 1)
    return generator


def _add(sums: Sequence[Tensor], more: Sequence[Tensor | None]) -> None:
    for total, one in zip(sums, more, strict=True):
        if one is not None:
            total += one
