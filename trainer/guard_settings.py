"""What may be set for the guard, which watches a training run and mends it. `trainer.guard` is what it does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.section import Count, Natural, Section, Share

INCIDENTS = "incidents.jsonl"
"""Where a guard writes what it finds, in the checkpoint folder."""


class OutliersConfig(Section):
    """Documents that cost far more than others, as garbage does. A kind of text that is rare and hard does too: look
    at the incidents before you let this run for weeks."""

    sigmas: Annotated[float, Field(gt=0)] = 6.0
    """Standard deviations above the running mean of its group that make a document one of these."""
    least_targets: Count = 32
    """Targets below which a document's mean loss says too little."""
    most: Annotated[Share, Field(gt=0)] = 0.02
    """Share of the documents read. Where more are outliers they are a kind of text, not faults: none is left out."""


class CoolConfig(Section):
    """A lower learning rate for a while."""

    share: Annotated[Share, Field(gt=0)] = 0.5
    """Of the schedule's rate, at first."""
    steps: Count = 100
    """Steps over which it rises to all of it again, evenly."""


class GuardConfig(Section):
    """A guard. It sees a step's loss and gradient norm before the weights move, and the size of a move one step later.
    Whatever it decides is written to `incidents.jsonl` beside the checkpoints."""

    window: Annotated[int, Field(strict=True, ge=8)] = 128
    """Good steps that a step is compared with."""
    sigmas: Annotated[float, Field(gt=0)] = 6.0
    """Standard deviations above the window's mean that make a loss, or the logarithm of a norm, a spike."""
    after: Natural = 100
    """First steps, in which only what is not finite counts."""
    leave_out: Literal["documents", "steps"] = "documents"
    """What is left out at a bad step. documents: those that stand out by their loss, if any do; the step is made
    without them. steps: the step as a whole."""
    documents: OutliersConfig | None = None
    """Whether documents that stand out by their loss are left out also where the step as a whole is fine; null: no."""
    patience: Natural = 2
    """Bad steps one behind the other that are left out before the weights are taken back."""
    snapshot_every: Count | None = 100
    """Steps between copies of weights and moments in the CPU's memory, of which two are kept; null: weights are taken
    back to a checkpoint."""
    rollbacks: Natural = 3
    """How often weights are taken back within 10 windows, before the run ends."""
    cool: CoolConfig | None = CoolConfig()
    """How the learning rate is lowered where weights were taken back; null: not."""
