"""How the learning rate moves: for each kind of schedule, the share of the highest rate at a step.

Each is a function of the step alone, so a resume needs no state of it and a rate can be drawn before a run. PyTorch's
schedulers keep state, and some cannot be asked for a step; where PyTorch has the same one, the tests compare.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.section import Count, Natural, Section, Share, unless_said

Factor = Annotated[float, Field(gt=0, le=1)]
Tail = Literal["linear", "cosine", "sqrt", "exponential"]


class Schedule(Section):
    """Linear warm-up to the highest rate, then what the kind says."""

    warmup: Natural = 0
    """Steps of linear warm-up."""

    def share(self, step: int, steps: int) -> float:
        """The rate of step `step` (1 .. steps) as a share of the highest."""
        if step <= self.warmup:
            return step / self.warmup
        return self.behind(step - self.warmup, steps - self.warmup)

    def behind(self, step: int, steps: int) -> float:
        """The same, steps being counted from the end of the warm-up, where the rate is the highest."""
        raise NotImplementedError

    def problem(self, steps: int) -> str | None:
        """What is wrong with it for a run of so many steps."""
        if self.warmup >= steps:
            return f"schedule.warmup {self.warmup} leaves nothing of {steps} steps; make it smaller"
        return None


class Constant(Schedule):
    """The highest rate to the end."""

    kind: Literal["constant"]
    """Kind of schedule."""

    def behind(self, step: int, steps: int) -> float:
        """1."""
        return 1.0


class Linear(Schedule):
    """A straight line down to the floor at the last step."""

    kind: Literal["linear"]
    """Kind of schedule."""
    floor: Share = 0.0
    """Rate at the last step, as a share of the highest."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 to the floor."""
        return self.floor + (1 - self.floor) * (1 - step / steps)


class Cosine(Schedule):
    """Half a cosine down to the floor at the last step (Loshchilov and Hutter 2017, section 3, without restarts)."""

    kind: Literal["cosine"]
    """Kind of schedule."""
    floor: Share = 0.1
    """Rate at the last step, as a share of the highest."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 to the floor."""
        return self.floor + (1 - self.floor) * half_cosine(step / steps)


class CosineRestarts(Schedule):
    """Half a cosine down to the floor, again and again from the highest rate (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine_restarts"]
    """Kind of schedule."""
    period: Count
    """Steps of the first cosine."""
    growth: Annotated[float, Field(ge=1)] = 1.0
    """How many times as long as the one before each cosine is."""
    floor: Share = 0.0
    """Rate at the end of each cosine, as a share of the highest."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 towards the floor; 1 again where a cosine ends."""
        left, length = float(step), float(self.period)
        if self.growth == 1:
            left %= length
        while left >= length:
            left -= length
            length *= self.growth
        return self.floor + (1 - self.floor) * half_cosine(left / length)


class Stairs(Schedule):
    """The rate falls by a factor now and then, either every so many steps or at given ones."""

    kind: Literal["step"]
    """Kind of schedule."""
    every: Count | None = None
    """Steps between two falls, counted from the end of the warm-up."""
    at: tuple[Count, ...] = ()
    """The steps of the run from which on the rate is lower, ascending; in place of `every`."""
    factor: Factor = 0.1
    """By which the rate falls each time."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Stairs:
        if (self.every is None) == (not self.at):
            raise ValueError("give either `every`, or the steps in `at`")
        if list(self.at) != sorted(set(self.at)):
            raise ValueError("the steps in `at` must ascend")
        return self

    def behind(self, step: int, steps: int) -> float:
        """The factor to the power of the falls so far."""
        falls = step // self.every if self.every else sum(first <= step + self.warmup for first in self.at)
        return self.factor**falls


class Exponential(Schedule):
    """The rate falls by the same factor at each step, down to the floor at the last one."""

    kind: Literal["exponential"]
    """Kind of schedule."""
    floor: Factor = 0.1
    """Rate at the last step, as a share of the highest."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 to the floor."""
        return float(self.floor ** (step / steps))


class Polynomial(Schedule):
    """A power of the share of steps that is left, down to the floor at the last step."""

    kind: Literal["polynomial"]
    """Kind of schedule."""
    power: Annotated[float, Field(gt=0)] = 2.0
    """1 is a straight line."""
    floor: Share = 0.0
    """Rate at the last step, as a share of the highest."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 to the floor."""
        return float(self.floor + (1 - self.floor) * (1 - step / steps) ** self.power)


class InverseSqrt(Schedule):
    """Falls as one over the root of the step (Vaswani et al. 2017, section 5.3), whatever the run's length."""

    kind: Literal["inverse_sqrt"]
    """Kind of schedule."""
    scale: Count | None = None
    """Steps behind the warm-up until the rate is 1/√2 of the highest; null: as many as the warm-up has, which is what
    the paper does, or 1."""

    def behind(self, step: int, steps: int) -> float:
        """From 1 towards 0."""
        scale = self.scale or max(1, self.warmup)
        return math.sqrt(scale / (scale + step))


class Cyclic(Schedule):
    """Straight lines between floor and highest rate, up and down (Smith 2017)."""

    kind: Literal["cyclic"]
    """Kind of schedule."""
    period: Annotated[int, Field(strict=True, ge=2)]
    """Steps of a cycle, up and down; the highest rate is halfway, between two steps where it is odd."""
    floor: Share = 0.1
    """Lowest rate, as a share of the highest."""
    shrink: Factor = 1.0
    """By which the height of each cycle is smaller than that of the one before: 0.5 is the paper's `triangular2`."""

    def behind(self, step: int, steps: int) -> float:
        """A cycle begins at the floor; behind a warm-up the first begins at the highest rate, in its middle."""
        cycle, inside = divmod(step + (self.period / 2 if self.warmup else 0), self.period)
        height = 1 - abs(2 * inside / self.period - 1)
        return float(self.floor + (1 - self.floor) * height * self.shrink**cycle)


class OneCycle(Section):
    """Up from a low rate to the highest, then down to a very low one (Smith and Topin 2018)."""

    kind: Literal["one_cycle"]
    """Kind of schedule."""
    up: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the steps in which the rate rises."""
    first: Share = 0.04
    """Rate at the first step, as a share of the highest."""
    floor: Share = 4e-6
    """Rate at the last step, as a share of the highest."""
    shape: Literal["cosine", "linear"] = "cosine"
    """Of both ways."""

    def share(self, step: int, steps: int) -> float:
        """The rate of step `step` (1 .. steps) as a share of the highest."""
        top = max(1e-9, self.up * steps - 1)  # counted from 0, as the paper's first implementations have it
        at = step - 1
        begin, end, way = (
            (self.first, 1.0, at / top) if at <= top else (1.0, self.floor, (at - top) / (steps - 1 - top))
        )
        left = half_cosine(way) if self.shape == "cosine" else 1 - way
        return end + (begin - end) * left

    def problem(self, steps: int) -> str | None:
        """What is wrong with it for a run of so many steps."""
        return None if steps > 2 else f"schedule.kind one_cycle needs 3 steps at least, not {steps}"


class WarmupStableDecay(Schedule):
    """The highest rate until shortly before the end, then a tail (Hu et al. 2024, MiniCPM, section 4; shapes of the
    tail: Hägele et al. 2024, section 3)."""

    kind: Literal["wsd"]
    """Kind of schedule."""
    tail: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the steps behind the warm-up in which the rate falls."""
    shape: Tail = "sqrt"
    """Of the tail; `sqrt` is 1 - √x."""
    floor: Share = 0.0
    """Rate at the last step, as a share of the highest."""

    @model_validator(mode="after")
    def _floor_of_a_power(self) -> WarmupStableDecay:
        if self.shape == "exponential" and not self.floor:
            raise ValueError("an exponential tail never reaches floor 0; give one above it, such as 0.01")
        return self

    def behind(self, step: int, steps: int) -> float:
        """1, then from 1 to the floor."""
        begin = steps * (1 - self.tail)
        if step <= begin:
            return 1.0
        way = (step - begin) / (steps - begin)
        if self.shape == "exponential":
            return float(self.floor**way)
        left = {"linear": 1 - way, "cosine": half_cosine(way), "sqrt": 1 - math.sqrt(way)}[self.shape]
        return self.floor + (1 - self.floor) * left


def half_cosine(way: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * way)) / 2


AnySchedule = Annotated[
    Annotated[
        Constant | Linear | Cosine | CosineRestarts | Stairs | Exponential | Polynomial | InverseSqrt | Cyclic
        | OneCycle | WarmupStableDecay,
        Field(discriminator="kind"),
    ],
    unless_said("cosine"),
]  # fmt: skip
"""A schedule of any kind."""
