"""How likely a model finds what stands behind a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from trainer.batch import NO_DOCUMENT
from trainer.generate import padded
from trainer.judge.subject import Subject

Pair = tuple[Sequence[int], Sequence[int]]
"""Tokens of a context, and of what stands behind it."""


class Score(NamedTuple):
    """Of a continuation, behind its context."""

    log_likelihood: float
    """In nats, summed over its tokens."""
    greedy: bool
    """Whether each of its tokens is the likeliest."""


@torch.no_grad()
def scores(
    subject: Subject,
    pairs: Sequence[Pair],
    batch: int = 16,
    watched: Callable[[Sequence[int]], Iterable[int]] = lambda batches: batches,
) -> list[Score]:
    """Of each pair of context and continuation, both of one token or more: how likely the one is behind the other.

    What is longer than the sequences of the training loses the beginning of its context. Batched by length; the
    batches decide on rounding alone. `watched` may show how far it is.
    """
    found: dict[int, Score] = {}
    order = sorted(range(len(pairs)), key=lambda n: (-len(pairs[n][0]) - len(pairs[n][1]), n))
    for first in watched(range(0, len(order), batch)):
        chosen = order[first : first + batch]
        found.update(zip(chosen, _batch(subject, [pairs[n] for n in chosen]), strict=True))
    return [found[n] for n in range(len(pairs))]


def _batch(subject: Subject, pairs: Sequence[Pair]) -> list[Score]:
    model, device = subject.model, subject.device
    behind = max(len(continuation) for _, continuation in pairs)
    if model.encoder is not None:
        inputs = padded([[*subject.begin, *continuation[:-1]] for _, continuation in pairs], device)
        contexts = [[*context[-subject.longest :], *subject.asked] for context, _ in pairs]
        inputs = inputs._replace(encoder=padded(contexts, device))
    else:
        inputs = padded([[*context, *new][-subject.longest - 1 :][:-1] for context, new in pairs], device)
    if subject.prefix:
        places_T = torch.arange(inputs.tokens_BT.shape[1], 0, -1, device=device)
        new_B1 = torch.tensor([[len(continuation)] for _, continuation in pairs], device=device)
        inputs = inputs._replace(prefix_BT=(inputs.documents_BT != NO_DOCUMENT) & (places_T >= new_B1))
    hidden_BTC, _ = model(inputs)
    shares_BTV = model.logits(hidden_BTC[:, -behind:]).float().log_softmax(-1)
    made = []
    for row_TV, (_, continuation) in zip(shares_BTV, pairs, strict=True):
        targets_T = torch.tensor(continuation[-len(row_TV) :], device=device)
        own_TV = row_TV[-len(targets_T) :]
        likeliest = bool((own_TV.argmax(-1) == targets_T).all())
        # summed in fp32, as the harness sums its own models', or long texts would differ by roundings
        made.append(Score(float(own_TV.gather(1, targets_T[:, None]).squeeze(1).sum()), likeliest))
    return made
