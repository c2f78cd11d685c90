"""What may be set for a step of learning, and for what the validation loss decides."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.section import Count, Natural, Section, Share

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "bf16-stochastic"]


class PlateauConfig(Section):
    """The learning rate is multiplied by `factor` behind `patience` evaluations without a better validation loss:
    that of the weights themselves, also where their `average` is kept."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What it is multiplied by."""
    patience: Natural = 3
    """Evaluations without progress that are let pass."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Nats that count as progress."""
    cooldown: Natural = 0
    """Evaluations behind a fall that are not counted."""
    floor: Share = 0.0
    """Least share of the schedule's rate."""


class EarlyStopConfig(Section):
    """The run ends behind `patience` evaluations without a better validation loss: that of the weights themselves, also
    where their `average` is kept."""

    patience: Count = 5
    """Evaluations without progress that end it."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Nats that count as progress."""


class LossConfig(Section):
    """The loss, which is in fp32 whatever the precision. What is logged is the cross entropy alone."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7)."""
    z: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the squared log of the softmax's denominator (Chowdhery et al. 2022, section 5): 1e-4 there."""
    l1: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the sum of the weights' sizes, of those that decay; a part of the gradient."""
    l2: Annotated[float, Field(ge=0)] = 0.0
    """Factor of half the sum of their squares; a part of the gradient, unlike decoupled decay."""
    chunk: Count | None = None
    """Places whose logits are in memory at once; they are made a second time for the backward pass. null: all."""


class NoiseConfig(Section):
    """The gradient noise scale (McCandlish et al. 2018), in the log as `noise_scale`, in sequences. Measured
    in runs of one process, in steps of two micro-batches or more (`micro_batch` is a whole batch unless it is set);
    null in the log until there are enough measurements."""

    every: Count = 1
    """Steps between measurements."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of its running means, per measurement. A number is told from the one on that brings the weight of all in them to
    a half: at 0.99 the 69th, at 0.9 the 7th."""


class AverageConfig(Section):
    """An exponential moving average of the weights (Polyak and Juditsky 1992)."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that stays, per step."""
