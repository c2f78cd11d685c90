"""From hidden states to the loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.batch import IGNORED, Batch
from trainer.learning_settings import LossConfig
from trainer.model import Inputs, Model
from trainer.numbers import wide
from trainer.parallel.collectives import all_most, summed
from trainer.parallel.world import Group

if TYPE_CHECKING:
    from trainer.distill import Teacher

SPARSE = 0.75
"""Share of places with a target below which logits are made of those places alone."""


class Losses(NamedTuple):
    """What some sequences cost. N sequences."""

    cross_entropy_N: Tensor
    """Of each sequence, summed over its targets, in nats; what is reported. (N, T), of each place, where asked so."""
    minimised: Tensor
    """Scalar: the sum over all targets of cross entropy, smoothing and z-loss."""
    auxiliary: Tensor | None
    """Scalar: what the model adds to the mean loss, if anything."""
    cross_entropy_P: Tensor | None = None
    """Of each document of the batch (`Batch.documents_BT`), as far as it is in these sequences; where asked for."""

    def share_of(self, targets: int, sequences: int) -> Tensor:
        """What these sequences add to the mean loss of a batch (scalar) of so many targets and sequences."""
        loss = self.minimised / max(1, targets)
        if self.auxiliary is not None:
            loss = loss + self.auxiliary * (len(self.cross_entropy_N) / sequences)
        return loss


def place_losses(
    logits_PV: Tensor, targets_P: Tensor, smoothing: float, z: float, split: Split | None = None
) -> tuple[Tensor, Tensor]:
    """(P,): the cross entropy of each place, 0 where there is no target; and the sum (scalar) that is minimised.

    Smoothing after Szegedy et al. 2016, section 7; z-loss after Chowdhery et al. 2022, section 5. Where the vocabulary
    is divided, what is summed over it is summed over all processes (Shoeybi et al. 2020, section 3).
    """
    logits_PV = wide(logits_PV)
    if split is None:
        cross_entropy_P = F.cross_entropy(logits_PV, targets_P, ignore_index=IGNORED, reduction="none")
        if not smoothing and not z:
            return cross_entropy_P.detach(), cross_entropy_P.sum()
        denominator_P, mean_P = logits_PV.logsumexp(-1), logits_PV.mean(-1)
    else:
        denominator_P, mean_P, target_P = over_parts(logits_PV, targets_P, split)
        cross_entropy_P = (denominator_P - target_P).masked_fill(targets_P == IGNORED, 0.0)
    uniform_P = denominator_P - mean_P
    minimised_P = (1 - smoothing) * cross_entropy_P + smoothing * uniform_P + z * denominator_P.square()
    return cross_entropy_P.detach(), minimised_P.masked_fill(targets_P == IGNORED, 0.0).sum()


class Split(NamedTuple):
    """A vocabulary that is divided among processes."""

    group: Group
    vocabulary: int

    @property
    def first(self) -> int:
        """The first token that is here."""
        return self.group.rank() * -(-self.vocabulary // self.group.size())


def over_parts(logits_PV: Tensor, targets_P: Tensor, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) each: log of the softmax's denominator, mean of the logits, logit of the target (any where it is ignored);
    V is the part of the vocabulary that is here."""
    group = split.group
    with torch.no_grad():
        most_P = all_most(logits_PV.amax(-1), group)
    denominator_P = summed((logits_PV - most_P[:, None]).exp().sum(-1), group).log() + most_P
    place_P = targets_P - split.first
    here_P = (place_P >= 0) & (place_P < logits_PV.shape[1])
    own_P = logits_PV.gather(1, place_P.where(here_P, 0)[:, None])[:, 0]
    target_P = summed(own_P.masked_fill(~here_P, 0.0), group)
    return denominator_P, summed(logits_PV.sum(-1), group) / split.vocabulary, target_P


@dataclass(frozen=True)
class LossOf:
    """Computes the loss of a model over rows of batches, in fp32. `forward` and `of_places` may be compiled ones."""

    model: Model
    settings: LossConfig
    amp: AbstractContextManager[Any]
    forward: Callable[[Inputs], tuple[Tensor, Tensor | None]] | None = None
    of_places: Callable[..., tuple[Tensor, Tensor]] = place_losses
    teacher: Teacher | None = None
    documents: bool = False
    """Whether each document's loss is asked for."""
    by_place: bool = False
    """Whether the cross entropy of each place is kept apart, not that of each sequence."""

    def __call__(self, batch: Batch, rows: slice) -> Losses:
        """The losses of these rows."""
        model, taught = self.model, None
        with self.amp:
            inputs = Inputs.of(batch, rows, next(model.parameters()).device, model.division.cp)
            forward = model if self.forward is None else self.forward
            if self.teacher is None:
                hidden_NTC, auxiliary = forward(inputs)
            else:
                hidden_NTC, auxiliary, taught = self.teacher.beside(forward, inputs)
        return self.of_hidden(hidden_NTC, auxiliary, batch, rows, taught)

    def of_hidden(
        self, hidden_NTC: Tensor, auxiliary: Tensor | None, batch: Batch, rows: slice, taught: Tensor | None = None
    ) -> Losses:
        """The losses of these rows, of their last hidden states; `taught`: those of a teacher."""
        cp, device = self.model.division.cp, hidden_NTC.device
        targets_NT = batch.targets_BT[rows]
        if cp is not None:
            targets_NT = np.ascontiguousarray(np.split(targets_NT, cp.size(), 1)[cp.rank()])
        hidden, chosen = hidden_NTC.flatten(0, 1), np.flatnonzero(targets_NT != IGNORED)
        sparse = len(chosen) < SPARSE * targets_NT.size
        targets = torch.from_numpy(targets_NT.reshape(-1)[chosen] if sparse else targets_NT.reshape(-1)).to(device)
        beside = [] if taught is None else [taught.flatten(0, 1)]
        if sparse:
            hidden, *beside = (each[torch.from_numpy(chosen).to(device)] for each in (hidden, *beside))
        cross_entropy, minimised = self._in_chunks(hidden, targets, *beside)
        if self.by_place:
            if sparse:
                places = torch.from_numpy(chosen).to(device)
                cross_entropy = cross_entropy.new_zeros(targets_NT.size).index_copy(0, places, cross_entropy)
            return Losses(cross_entropy.view(targets_NT.shape), minimised, auxiliary)
        of_documents = None
        if self.documents:
            ids = batch.documents_BT[rows].reshape(-1)
            ids = np.maximum(ids[chosen] if sparse else ids, 0)  # what is of none has no target, and costs nothing
            of_documents = cross_entropy.new_zeros(batch.documents)
            if len(of_documents):
                of_documents.index_add_(0, torch.from_numpy(ids).to(device, non_blocking=True), cross_entropy.detach())
        if not sparse:
            return Losses(cross_entropy.view(targets_NT.shape).sum(1), minimised, auxiliary, of_documents)
        row = torch.from_numpy(chosen // targets_NT.shape[1]).to(device)
        by_row = cross_entropy.new_zeros(len(targets_NT)).index_add(0, row, cross_entropy)
        return Losses(by_row, minimised, auxiliary, of_documents)

    def _in_chunks(self, hidden: Tensor, targets: Tensor, *taught: Tensor) -> tuple[Tensor, Tensor]:
        def one(hidden: Tensor, targets: Tensor, *taught: Tensor) -> tuple[Tensor, Tensor]:
            with self.amp:
                logits = self.model.logits(hidden)
            tp = self.model.division.tp
            split = None if tp is None else Split(tp, self.model.vocabulary)
            smoothing, z = self.settings.label_smoothing, self.settings.z
            cross_entropy, minimised = self.of_places(logits, targets, smoothing, z, split)
            if self.teacher is not None:
                with self.amp:
                    minimised = self.teacher.mixed(minimised, logits, targets, *taught)
            return cross_entropy, minimised

        chunk = self.settings.chunk
        if chunk is None or len(targets) <= chunk:
            return one(hidden, targets, *taught)
        parts = [
            checkpoint(one, *part, use_reentrant=False)
            for part in zip(*(torch.split(each, chunk) for each in (hidden, targets, *taught)), strict=True)
        ]
        return torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts]).sum()
