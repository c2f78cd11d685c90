"""What a model costs on the validation split, on the way and at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import unigram
from trainer.batch import IGNORED
from trainer.data import Source, Splits
from trainer.labels import Labels
from trainer.learning import Learner
from trainer.parallel.world import Floats
from trainer.text_bytes import TextBytes

Figures = dict[str, float]


@dataclass(frozen=True)
class Result:
    """What a finished run reached, in nats per token; None where there is no validation split."""

    unigram_entropy: float | None
    """Of the training split, or of a part of it (`unigram.counts`)."""
    validation_loss: float | None
    """Over all of the validation split."""
    validation_unigram: float | None
    """What the validation split costs under the training split's unigram frequencies."""
    step: int
    """The last one."""
    average_loss: float | None = None
    """The validation loss of the weights' running mean, where one is kept."""
    perplexity: float | None = None
    bits_per_byte: float | None = None
    targets: int | None = None
    by_source: dict[str, Figures] | None = None
    by_language: dict[str, Figures] | None = None
    """These five as in `evaluate`."""


@dataclass(frozen=True)
class Cost:
    """What targets cost, by label (a pair of source and language)."""

    names: tuple[tuple[str, str], ...]
    nats_K: Floats
    targets_K: Floats
    bytes_K: Floats | None
    """UTF-8 bytes of text that the targets stand for; None where the tokenizer does not say."""

    @property
    def loss(self) -> float:
        """Nats per target, of all."""
        return float(self.nats_K.sum() / max(1, self.targets_K.sum()))

    def figures(self, chosen_K: npt.NDArray[np.bool_] | None = None) -> Figures:
        """Of some labels together, or of all: loss in nats per target, perplexity, targets and, where known, bits per
        byte: all bits, those of ends of text too, by all bytes of text (Gao et al. 2020, The Pile, section 3.1)."""
        chosen_K = np.ones(len(self.names), bool) if chosen_K is None else chosen_K
        nats, targets = float(self.nats_K[chosen_K].sum()), int(self.targets_K[chosen_K].sum())
        loss = nats / max(1, targets)
        found = {"loss": loss, "perplexity": perplexity(loss), "targets": targets}
        if self.bytes_K is not None and (text := float(self.bytes_K[chosen_K].sum())):
            found["bits_per_byte"] = nats / math.log(2) / text
        return found

    def by_source(self) -> dict[str, Figures]:
        """The figures of each source that has targets, the largest first."""
        return self._by([source for source, _ in self.names])

    def by_language(self) -> dict[str, Figures]:
        """The same of each language."""
        return self._by([language for _, language in self.names])

    def _by(self, named: list[str]) -> dict[str, Figures]:
        found = {one: self.figures(np.array([name == one for name in named])) for one in sorted(set(named))}
        largest_first = sorted(found.items(), key=lambda item: -item[1]["targets"])
        return {name: figures for name, figures in largest_first if figures["targets"]}


def perplexity(loss: float) -> float:
    """exp of a loss in nats; the largest number there is, where it is beyond that."""
    return math.exp(min(loss, 709.0))


class Validation:
    """The validation split of a run, and whose text each place of it is."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @cached_property
    def labels(self) -> Labels:
        """Read where the first evaluation asks."""
        return Labels.of(self.source)

    @cached_property
    def text(self) -> TextBytes | None:
        """The same."""
        return TextBytes.of(self.source.corpus)

    def cost(self, learner: Learner, sequences: int | None = None, average: bool = False) -> Cost:
        """What all sequences cost, or so many of them, evenly spread, in all processes together."""
        plan, world, labels = self.source.plan, learner.world, self.labels
        number = min(sequences or plan.sequences, plan.sequences)
        chosen = np.arange(number) * plan.sequences // number
        total_3K = np.zeros((3, len(labels.names)))
        rows = learner.config.micro * (world.config.pp * world.config.stages_each if world.config.pp > 1 else 1)
        for first in range(0, number, rows * world.config.readers):
            these = chosen[first : first + rows * world.config.readers]
            own = these[world.reader * rows : (world.reader + 1) * rows]
            world.beat()
            read = own if len(own) else these[:1]
            batch = self.source.batch(read)
            labels_BT = labels.of_batch(read, batch)
            if len(own) < rows and world.size > 1:
                batch = batch.first(len(own), rows)
                labels_BT = np.resize(labels_BT, batch.targets_BT.shape)  # where nothing is, it counts nothing
            total_3K[0] += learner.measure_by(batch, labels_BT, len(labels.names), average)
            real_BT = batch.targets_BT != IGNORED
            bytes_BT = np.zeros(real_BT.shape) if self.text is None else self.text.of_targets(batch)
            counted = [
                np.bincount(labels_BT.reshape(-1), of.reshape(-1), len(labels.names)) for of in (real_BT, bytes_BT)
            ]
            total_3K[1:] += world.summed(np.concatenate(counted)).reshape(2, -1)
        return Cost(labels.names, total_3K[0], total_3K[1], None if self.text is None else total_3K[2])


def evaluate(learner: Learner, held_out: Validation, sequences: int | None = None) -> dict[str, Any]:
    """`validation_loss` (nats per target), `perplexity`, `bits_per_byte` where the tokenizer tells bytes, `targets`,
    the same `by_source` and `by_language`; `average_loss` where the weights' running mean is kept."""
    cost = held_out.cost(learner, sequences)
    whole = cost.figures()
    found: dict[str, Any] = {"validation_loss": whole.pop("loss")}
    if learner.average is not None:
        found["average_loss"] = held_out.cost(learner, sequences, average=True).loss
    return found | whole | {"by_source": cost.by_source(), "by_language": cost.by_language()}


def told_of(measured: dict[str, Any]) -> str:
    """The figures of an evaluation that a line has room for."""
    names = ("validation_loss", "average_loss", "bits_per_byte")
    return ", ".join(f"{name.replace('_', ' ')} {measured[name]:.4f}" for name in names if name in measured)


def conclude(learner: Learner, splits: Splits, held_out: Validation | None, step: int) -> Result:
    """The figures at the end of a run."""
    if held_out is None:
        return Result(None, None, None, step)
    measured = evaluate(learner, held_out)
    learner.world.beat()
    trained = unigram.counts(splits.train.corpus, learner.config.data.split)
    learner.world.beat()
    expected = unigram.cross_entropy(trained, unigram.targets(held_out.source))
    return Result(unigram.entropy(trained), validation_unigram=expected, step=step, **measured)
