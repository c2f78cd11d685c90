"""How long a run is: from tokens or epochs to steps."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from pipeline.errors import RecipeError
from pipeline.settings import explain, listed
from trainer.batch_ramp import sequences_in, steps_for
from trainer.config import TrainConfig, check_changes
from trainer.history import History
from trainer.mixture import read_groups
from trainer.packing import Plan

Weights = Mapping[str, float] | None
"""Shares of tokens by group, as of `trainer.mixture.weights_of`."""


def settled(
    config: TrainConfig, plan: Plan | None, weights: Weights = None, done: tuple[int, History] | None = None
) -> TrainConfig:
    """The configuration with its length in steps, whichever way it was given.

    `plan` is that of the training split; only epochs need it, and `weights`. `done`: the steps behind a run that goes
    on, and its history, whose batches may have been others. Raises RecipeError where the schedule or a change does not
    fit.
    """
    if config.steps is not None:
        return config
    wanted, step = _sequences(config, plan, weights), 0
    if done is not None:
        step, history = done
        wanted += sequences_in(step, config.stages) - history.sequences(step)
    steps = max(1, step, steps_for(wanted, config.stages))
    values = config.model_dump() | {"steps": steps, "tokens": None, "epochs": None}
    try:
        made = TrainConfig.model_validate(values)
    except ValidationError as error:
        raise RecipeError(listed("the configuration", explain(error, TrainConfig))) from error
    check_changes(made, "the configuration")
    return made


def told(config: TrainConfig, history: History, plan: Plan, weights: Weights = None) -> str:
    """The length in all three measures, for a settled configuration and a history with all that is planned."""
    sequences = history.sequences(config.last_step)
    about = "at least " if config.batch_ramp is not None and config.batch_ramp.kind == "noise" else ""
    return (
        f"{config.last_step:,} steps = {about}{sequences * config.sequence_length:,} tokens (padding counts) "
        f"= {about}{sequences / _readable(plan, weights):.3g} epochs"
    )


def _sequences(config: TrainConfig, plan: Plan | None, weights: Weights) -> float:
    if config.tokens is not None:
        return config.tokens / config.sequence_length
    assert config.epochs is not None
    assert plan is not None
    return config.epochs * _readable(plan, weights)


def _readable(plan: Plan, weights: Weights) -> int:
    """Sequences of an epoch: of the groups that have a weight."""
    return sum(group.sequences for group in read_groups(plan, weights))
