"""What may be set for changes in mid-run."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from trainer.section import Section

CHANGEABLE = {
    "optimizer", "schedule", "global_batch", "micro_batch", "precision", "objective", "loss", "average", "noise_scale",
    "plateau", "compile", "guard", "evaluation", "log", "data.weights", "model.activation", "model.attention",
    "model.recompute", "model.dropout",
}  # fmt: skip
"""What `changes` may set: it neither shapes the model nor decides on the order of what is read within a group."""


class ChangeConfig(Section):
    """Other settings from a step on. The run is as if it had been stopped before that step, and gone on with them: a
    checkpoint is written, and the history notes the change. What the optimiser remembers is carried over where it means
    something to the new one (`trainer.carry` has the table)."""

    step: Annotated[int, Field(strict=True, ge=2)]
    """The first step with them."""
    set: dict[str, Any]
    """Keys, such as `optimizer` or `optimizer.learning_rate`, and their values; a section is given as a whole. What
    may change: optimizer, schedule, global_batch, micro_batch, precision, objective, loss, average, noise_scale,
    plateau, compile, guard, evaluation, log, data.weights, and of the model activation, attention, recompute and
    dropout."""


def changed(values: dict[str, Any], changes: Iterable[ChangeConfig]) -> dict[str, Any]:
    """A configuration's values with changes put in. Raises KeyError for a key that may not change."""
    for change in changes:
        for key, value in change.set.items():
            if not any(key == known or key.startswith(f"{known}.") for known in CHANGEABLE):
                raise KeyError(key)
            *path, last = key.split(".")
            place = values
            for part in path:
                if not isinstance(place.get(part), dict):
                    raise KeyError(key)
                place = place[part]
            place[last] = copy.deepcopy(value)
    return values
