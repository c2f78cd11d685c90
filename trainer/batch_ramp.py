"""How the batch grows: settings by kind. What they give becomes events of the run's history (`trainer.order`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, model_validator

from trainer.section import Count, Section, Share, is_stored

Coupling = Literal["none", "sqrt", "linear"]

NOTICE = 34
"""Data steps between the measurement that changes the batch and the first batch that it changes: those between may be
made already. Above the most that `data.look_ahead` allows, so that look-ahead has no part in it."""


class Ramp(Section):
    """What all of them share."""

    couple: Coupling = "none"
    """How the learning rate follows the batch: with its square root (Malladi et al. 2022), in proportion (Goyal et al.
    2017), or not at all. At the full batch it is the schedule's."""
    critical: Count | None = None
    """Batch above which a larger one no longer raises the learning rate (McCandlish et al. 2018, section 2.2). It is a
    number that you give, and nothing measures it: take the `noise_scale` that a run logs (in sequences) where the rate
    is to be highest, since it grows as the loss falls. null: no such batch."""

    @model_validator(mode="after")
    def _critical_is_of_a_coupling(self, info: ValidationInfo) -> Ramp:
        if self.critical is not None and self.couple == "none" and not is_stored(info):
            raise ValueError(
                f"critical {self.critical} bounds how the learning rate follows the batch, which with couple none it "
                "does not; set couple to sqrt or linear, or leave critical out"
            )
        return self

    def rate_share(self, batch: int, full: int) -> float:
        """What the learning rate of a step over `batch` sequences is multiplied by."""
        most = self.critical or max(batch, full)
        share = min(batch, most) / min(full, most)
        return {"none": 1.0, "sqrt": math.sqrt(share), "linear": share}[self.couple]

    def stages(self, full: int) -> list[tuple[int, int]]:
        """(first step, batch) of what is known beforehand; the first is of step 1."""
        raise NotImplementedError

    def problem(self, full: int, micro: int) -> str | None:
        """What is wrong with it beside a full batch, divided into micro-batches of `micro` sequences."""
        before = 0
        for _, batch in self.stages(full):
            if batch > full:
                return f"batch_ramp has a batch of {batch}, above the global_batch of {full}; raise global_batch"
            if batch % micro:
                return (
                    f"batch_ramp has a batch of {batch}, which does not divide into micro-batches of {micro}; "
                    "make micro_batch a divisor of every batch"
                )
            if batch <= before:
                return f"batch_ramp goes from {before} sequences to {batch}; it must grow"
            before = batch
        return None


class LinearRamp(Ramp):
    """From `first` up to the global batch in equal increments, one every so many steps (Brown et al. 2020)."""

    kind: Literal["linear"]
    """Kind of ramp."""
    first: Count
    """Sequences of the first batch."""
    increment: Count
    """Sequences that are added each time; from first to global_batch must be a multiple of it."""
    every: Count
    """Steps between increments."""

    def stages(self, full: int) -> list[tuple[int, int]]:
        """(first step, batch)."""
        batches = range(self.first, max(full, self.first) + 1, self.increment)
        return [(1 + n * self.every, batch) for n, batch in enumerate(batches)]

    def problem(self, full: int, micro: int) -> str | None:
        """What is wrong with it."""
        if self.first > full:
            return f"batch_ramp begins with {self.first} sequences, more than the global_batch of {full}"
        if (full - self.first) % self.increment:
            return (
                f"batch_ramp goes from {self.first} by {self.increment}, which does not meet the global_batch of {full}"
            )
        return super().problem(full, micro)


class Stage(Section):
    """A batch from a step on."""

    step: Count
    """First step that has it."""
    global_batch: Count
    """Sequences."""


class StepRamp(Ramp):
    """Batches from given steps on."""

    kind: Literal["steps"]
    """Kind of ramp."""
    at: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """Step and batch of each stage, rising; the first has step 1, and global_batch follows as the last one's."""

    @model_validator(mode="after")
    def _rising(self) -> StepRamp:
        steps = [stage.step for stage in self.at]
        if steps[0] != 1 or any(b <= a for a, b in pairwise(steps)):
            raise ValueError(f"at has steps {', '.join(map(str, steps))}; they must begin with 1 and rise")
        return self

    def stages(self, full: int) -> list[tuple[int, int]]:
        """(first step, batch)."""
        return [(stage.step, stage.global_batch) for stage in self.at]

    def problem(self, full: int, micro: int) -> str | None:
        """What is wrong with it."""
        if (last := self.at[-1].global_batch) != full:
            return f"batch_ramp ends at {last} sequences, but global_batch is {full}; make them equal"
        return super().problem(full, micro)


class NoiseRamp(Ramp):
    """Doubled where the measured gradient noise scale says that a larger batch still pays, up to the global batch
    (McCandlish et al. 2018, section 2.2). Each growth is written into the run's history before it acts."""

    kind: Literal["noise"]
    """Kind of ramp."""
    first: Count
    """Sequences of the first batch; global_batch must be first times a power of two."""
    share: Annotated[Share, Field(gt=0)] = 0.5
    """The batch is doubled where twice as many sequences are at most this share of the noise scale."""
    every: Count = 50
    """Steps between looks, and the fewest between two growths."""

    def stages(self, full: int) -> list[tuple[int, int]]:
        """The first batch."""
        return [(1, self.first)]

    def problem(self, full: int, micro: int) -> str | None:
        """What is wrong with it."""
        times, rest = divmod(full, self.first)
        if rest or not times or times & (times - 1):
            return f"batch_ramp doubles a batch of {self.first}, which never meets the global_batch of {full}"
        if self.first < 2 * micro:
            return (
                f"batch_ramp noise measures over micro-batches, but the first batch of {self.first} sequences is no "
                f"more than one of {micro}; make micro_batch half of it or less"
            )
        return super().problem(full, micro)

    def grown(self, step: int, batch: int, full: int, noise_scale: float | None) -> int | None:
        """The larger batch that a measurement behind `step` asks for, or None."""
        if step % self.every or noise_scale is None or 2 * batch > full or 2 * batch > self.share * noise_scale:
            return None
        return 2 * batch


AnyRamp = Annotated[LinearRamp | StepRamp | NoiseRamp, Field(discriminator="kind")]
"""A ramp of any kind."""


def steps_for(sequences: float, stages: Sequence[tuple[int, int]]) -> int:
    """The fewest steps in which that many sequences are read, over batches of (first step, batch)."""
    left = sequences
    for (first, batch), (behind, _) in pairwise(stages):
        if left <= (behind - first) * batch:
            return first - 1 + int(-(-left // batch))
        left -= (behind - first) * batch
    first, batch = stages[-1]
    return first - 1 + int(-(-left // batch))


def sequences_in(steps: int, stages: Sequence[tuple[int, int]]) -> int:
    """How many sequences so many steps read: the inverse."""
    ends = [first for first, _ in stages[1:]] + [steps + 1]
    return sum(max(0, min(end, steps + 1) - first) * batch for (first, batch), end in zip(stages, ends, strict=True))
