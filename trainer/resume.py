"""Where a run stands, how it begins, and how it goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.shards import Corpus
from trainer import checkpoint
from trainer.carry import carried
from trainer.checkpoint import CorpusFacts, Meta
from trainer.compress_settings import settled
from trainer.config import TrainConfig
from trainer.curriculum import with_lengths, without_lengths
from trainer.data_settings import DataConfig
from trainer.guard import SAMPLE, Guard
from trainer.history import Changed, GlobalBatch, History, Jump, LeaveOut, Start, Weights
from trainer.learning import Learner, Update
from trainer.loose.coupling import Coupling
from trainer.model_settings import RUNNING
from trainer.objectives import facts_of, same_sentinels
from trainer.optim import matrices
from trainer.parallel.saving import Saver, newest, set_random
from trainer.plateau import Watch

FREE: dict[str, Any] = dict.fromkeys(
    ("global_batch", "checkpoint", "log", "evaluation", "early_stop", "require_below_unigram", "guard", "changes"), True
) | {
    "data": set(DataConfig.model_fields) - {"prefix_loss", "prompt_loss", "documents"},
    "model": {"preset", "init_from"},
    "parallel": {"timeout", "self_test"},
    "loose": {"roll_call": True, "privacy": {"noise_key"}},
}
"""Settings that may change at a resume without a word: they do not move the weights, or they become an event."""


@dataclass
class Standing:
    """How far a run is. Together with the tensors, all that a checkpoint holds."""

    history: History
    step: int = 0
    """Training steps done."""
    attempt: int = 0
    data_step: int = 0
    """The last data step read."""
    tokens: int = 0
    """Targets learned from."""
    validation_loss: float | None = None
    """Where it was measured behind this step."""

    def place(self) -> dict[str, Any]:
        """What every row of the metrics log begins with."""
        return {"step": self.step, "attempt": self.attempt, "data_step": self.data_step}

    def save(
        self,
        config: TrainConfig,
        corpus: Corpus,
        learner: Learner,
        watch: Watch,
        coupling: Coupling | None,
        guard: Guard | None,
        saver: Saver,
    ) -> None:
        """Writes a checkpoint."""
        meta = Meta(
            step=self.step,
            attempt=self.attempt,
            data_step=self.data_step,
            tokens=self.tokens,
            history=self.history,
            config=config,
            vocabulary=learner.model.vocabulary,
            corpus=CorpusFacts.of(corpus, config.data.split),
            threads=torch.get_num_threads(),
            processes=learner.world.config.told,
            torch=str(torch.__version__),
            validation_loss=self.validation_loss,
        )
        state = learner.state_dict() | {"watch": watch.state_dict()}
        if coupling is not None:
            state["coupling"] = coupling.state_dict()
        if guard is not None:
            state["guard"] = guard.state_dict()
            if learner.update is not None:
                state["update"] = {str(learner.world.rank): tuple(learner.update)}
        saver.save(meta, state)


def start(config: TrainConfig, weights: dict[str, float] | None = None) -> Standing:
    """The beginning of a run."""
    first = Start(
        data_step=1, global_batch=config.stages[0][1], sequence_length=config.sequence_length, seed=config.seed
    )
    return Standing(with_wishes(History(events=(first,)), 1, config, weights))


def taken_up(path: Path, meta: Meta, config: TrainConfig, learner: Learner, watch: Watch) -> dict[str, Any]:
    """Loads a checkpoint into learner and watch, moments as `config` has them; returns all that it holds."""
    state = checkpoint.load_parts(path)
    inner = matrices(learner.model)
    state["optimizer"] = carried(state["optimizer"], meta.config.optimizer, config.optimizer, inner)
    learner.load_state_dict(state)
    if "watch" in state:
        watch.load_state_dict(state["watch"])
    return state


def go_on(
    config: TrainConfig,
    corpus: Corpus,
    weights: dict[str, float] | None,
    learner: Learner,
    watch: Watch,
    say: Callable[[str], None],
    coupling: Coupling | None = None,
    guard: Guard | None = None,
    planned: TrainConfig | None = None,
    found: tuple[Path, Meta] | None = None,
) -> Standing | None:
    """Loads the newest whole checkpoint into learner, watch, coupling and guard; None where there is none.

    `planned`: the configuration with its changes in mid-run, of which `config` is what holds at the next step. `found`:
    that checkpoint, where it was looked for already.
    Raises UserError where it belongs to another corpus, model or order.
    """
    found = found or newest(learner.world, config.checkpoint.folder, say)
    if found is None:
        return None
    path, meta = found
    then = planned.at(meta.step) if planned is not None else config
    if then.micro_batch == "auto":  # that of the checkpoint, where its batches are still multiples of it
        stays = not any(batch % meta.config.micro for _, batch in then.stages)
        found_micro = meta.config.micro_batch if stays else config.micro_batch
        then = then.model_copy(update={"micro_batch": found_micro})
    _check(then, corpus, meta, learner.model.vocabulary)
    state = taken_up(path, meta, config, learner, watch)
    if coupling is not None and "coupling" in state:
        coupling.load_state_dict(state["coupling"])
    if guard is not None and "guard" in state:
        guard.load_state_dict(state["guard"])
    if set_random(learner.world, state["random"], meta.processes):
        if guard is not None and "update" in state and state["guard"].get("sample") == SAMPLE:
            squared, rate = state["update"][str(learner.world.rank)]
            learner.update = Update(squared.to(learner.device, copy=True), rate)
    else:
        if guard is not None:
            guard.is_divided_anew()
        say("the random numbers of dropout begin anew: the run was divided otherwise")
    say(f"going on from {path} (step {meta.step})")
    changed = changes(meta.config, then, meta.step)
    if (now := torch.get_num_threads()) != meta.threads:
        changed.append(f"torch threads {meta.threads} -> {now}")
    if str(torch.__version__) != meta.torch:
        changed.append(f"torch {meta.torch} -> {torch.__version__}")
    if meta.format_version < checkpoint.FORMAT_VERSION:
        changed.append(f"an older version of corpusmill wrote the checkpoint (format {meta.format_version})")
    if changed:
        say(f"not equal to the bit to a run that never stopped, because of: {', '.join(changed)}")
    upcoming, history = meta.history.data_step(meta.step + 1)[1], meta.history
    for change in config.changes:
        if change.step == meta.step + 1:
            history = history.planned([Changed(data_step=upcoming, step=change.step, set=change.set)])
            say(f"from step {change.step} on: {', '.join(changes(then, config, meta.step) or change.set)}")
    history = with_wishes(history, upcoming, config, weights)
    if weights != meta.history.at(max(1, meta.data_step)).weights and weights is not None:
        shares = ", ".join(f"{name} {share:.4g}" for name, share in weights.items())
        say(f"other weights from step {meta.step + 1} on: {shares}")
    return Standing(history, meta.step, meta.attempt, meta.data_step, meta.tokens)


def with_wishes(
    history: History, upcoming: int, config: TrainConfig, weights: dict[str, float] | None = None
) -> History:
    """The history with an event for each thing that the configuration wants otherwise from data step `upcoming` on.

    `weights` are those of `trainer.mixture.weights_of`.
    """
    history = without_lengths(history, upcoming)
    if config.data.skip_to is not None and upcoming < config.data.skip_to:
        step = history.step(upcoming)
        assert step is not None
        upcoming = config.data.skip_to
        history = history.planned([Jump(data_step=upcoming, step=step[1])])
    moment = history.at(upcoming)
    added = sorted(set(config.data.leave_out) - moment.left_out)
    if added:
        history = history.planned([LeaveOut(data_step=upcoming, documents=tuple(added))])
    if weights != moment.weights and weights is not None:
        history = history.planned([Weights(data_step=upcoming, weights=weights)])
    return with_lengths(_with_batches(history, upcoming, config), upcoming, config.data.curriculum)


def foreseen(
    history: History, step: int, planned: TrainConfig, weights_at: Callable[[TrainConfig], dict[str, float] | None]
) -> History:
    """The history of a run that stands behind `step`, with what its configuration's changes will bring into it; their
    weights are those of `weights_at`."""
    for change in planned.changes:
        if change.step > step + 1:
            then = planned.at(change.step)
            history = with_wishes(history, history.data_step(change.step)[1], then, weights_at(then))
    return history


def _with_batches(history: History, upcoming: int, config: TrainConfig) -> History:
    """The history with the batches that the configuration wants from data step `upcoming` on.

    What was to come is the configuration's to say anew; a batch that was measured (ramp noise) stays as it grew.
    """
    step = history.step(upcoming)
    assert step is not None
    noise = config.batch_ramp is not None and config.batch_ramp.kind == "noise"
    stays = [
        e
        for e in history.events
        if not isinstance(e, GlobalBatch)
        or e.data_step <= upcoming
        or (noise and e.measured and e.global_batch <= config.global_batch)
    ]
    history = History(events=tuple(stays))
    stages = config.stages
    now = [batch for first, batch in stages if first <= step[1]][-1]
    if noise:
        return _then(history, upcoming, min(max(now, history.at(upcoming).global_batch), config.global_batch))
    history = _then(history, upcoming, now)
    for first, batch in stages:
        if first > step[1]:
            history = _then(history, upcoming + first - step[1], batch)
    return history


def _then(history: History, data_step: int, batch: int) -> History:
    if history.at(data_step).global_batch == batch:
        return history
    return history.planned([GlobalBatch(data_step=data_step, global_batch=batch)])


def changes(before: TrainConfig, after: TrainConfig, done: int) -> list[str]:
    """Settings that differ and that moved the weights in the steps done, or will, such as `optimizer.beta1 0.9 -> 0.8`.

    Another number of steps is none where the schedule's rates of those done are the same.
    """
    old, new = flat(before.model_dump(exclude=FREE)), flat(after.model_dump(exclude=FREE))
    if old["steps"] != new["steps"] and all(before.rate(step) == after.rate(step) for step in _spread(done)):
        old.pop("steps")
        new.pop("steps")
    keys = [*new, *(key for key in old if key not in new)]
    return [f"{key} {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _spread(last: int, most: int = 1000) -> list[int]:
    """Steps from 1 to the last, evenly spread."""
    return sorted({1 + round(n * (last - 1) / max(1, most - 1)) for n in range(most)}) if last else []


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def _check(config: TrainConfig, corpus: Corpus, meta: Meta, vocabulary: int) -> None:
    folder = config.checkpoint.folder
    otherwise = "Choose another checkpoint.folder to begin a new run."
    facts = CorpusFacts.of(corpus, config.data.split)
    if facts.tokenizer != meta.corpus.tokenizer:
        raise UserError(
            f"{folder} was trained on tokens of another tokenizer ({meta.corpus.tokenizer[:12]}, "
            f"{config.data.corpus} has {facts.tokenizer[:12]}). {otherwise}"
        )
    if facts.token_files != meta.corpus.token_files:
        there, here = dict(meta.corpus.token_files), dict(facts.token_files)
        differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
        raise UserError(
            f"{folder} was trained on other shards than those of split '{config.data.split}' in {config.data.corpus}; "
            f"the first that differs is {differing[0] if differing else 'their order'}. {otherwise}"
        )
    same_sentinels(folder, meta.format_version, facts_of(config, corpus))
    there, here = (flat(model.model_dump(exclude=RUNNING)) for model in (meta.config.model, config.model))
    shape = [
        f"model.{key} {there.get(key)} -> {here.get(key)}"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key) and key != "vocabulary"
    ]
    if vocabulary != meta.vocabulary:
        shape.append(f"vocabulary {meta.vocabulary} -> {vocabulary}")
    if shape:
        raise UserError(f"{folder} holds a model of another shape: {', '.join(shape)}. {otherwise}")
    start, before = meta.history.start, meta.config.data
    held, wanted = settled(meta.config), settled(config)
    for key, then, now in (
        *((key, held[key], wanted[key]) for key in wanted),
        ("data.packing", before.packing, config.data.packing),
        ("data.remainder", before.remainder or "pad", config.data.remainder or "pad"),
        ("seed", start.seed, config.seed),
        ("sequence_length", start.sequence_length, config.sequence_length),
    ):
        if then != now:
            raise UserError(
                f"{folder} was trained with {key} {then}, not {now}; another one is another run. {otherwise}"
            )
    if meta.step > config.last_step:
        raise UserError(
            f"{folder} has {meta.step} steps behind it, more than the {config.last_step} asked for. {otherwise}"
        )
