"""The training run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import RecipeError, UserError
from trainer import checkpoint, devices, length, precision
from trainer.batch_ramp import NOTICE, NoiseRamp
from trainer.config import TrainConfig
from trainer.data import Loader, Splits
from trainer.distill import check_tokenizer
from trainer.evaluation import Result, Validation, conclude, evaluate, told_of
from trainer.gauge import Gauge
from trainer.guard import Guard
from trainer.history import GlobalBatch, History
from trainer.hugging_face import begin_from
from trainer.learning import Learner
from trainer.loose.worker import as_worker, couple, exchanged
from trainer.mending import Mending
from trainer.micro_batch import with_micro_batch
from trainer.mixture import caps, check_epochs, weights_of
from trainer.model import Model
from trainer.objectives import vocabulary_of
from trainer.order import Order
from trainer.packings import side_by_side
from trainer.parallel.saving import FAILED, Saver, newest, together
from trainer.parallel.self_test import check_machines, leave_out
from trainer.parallel.world import World, begun
from trainer.plateau import Watch
from trainer.profiling import Profile
from trainer.resume import Standing, foreseen, go_on, start
from trainer.samples import samples_of, tell
from trainer.stop import Stop
from trainer.telling import by_group, figures, not_finite
from trainer.tracking import journal

Say = Callable[[str], None]


def fit(
    config: TrainConfig, splits: Splits, say: Say, splits_of: Callable[[TrainConfig], Splits] | None = None
) -> Result | int:
    """Trains to the last step, from a checkpoint where there is one. `trainer.run` has checked config and splits;
    `splits_of` makes those of another objective or of other weights, where the configuration changes them.

    Returns the result, or the signal that ended the run early, at the end of a step and with a checkpoint.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    leave_out(config)
    with begun(config.parallel, devices.choose(config.device)) as world:
        one = np.arange(config.micro) if config.micro_batch != "auto" else np.arange(1)
        check_machines(world, config.checkpoint.folder, lambda: splits.train.batch(one), say)
        world, config = as_worker(world, config, splits.train.corpus)
        with ExitStack() as held:
            lock = checkpoint.locked(config.checkpoint.folder)
            together(world, lambda: held.enter_context(lock) if world.first else None)
            result: Result | int | None = None
            while result is None:  # once, unless the configuration changes in mid-run
                found = newest(world, config.checkpoint.folder, say) if config.changes else None
                now = config.at(found[1].step + 1 if found is not None else 1)
                others = now.objective != config.objective or now.data != config.data
                read = splits_of(now) if splits_of is not None and others else splits
                result = _fit(config, now, read, world, say, found)
            return result


def _fit(
    planned: TrainConfig,
    config: TrainConfig,
    splits: Splits,
    world: World,
    say: Say,
    found: tuple[Path, checkpoint.Meta] | None,
) -> Result | int | None:
    """Trains as long as the settings are those of `config`, from the checkpoint `found`, if one was looked for. None
    where others are `planned` for the next step, with a checkpoint."""
    device, source, corpus = world.device, splits.train, splits.train.corpus
    order = Order(source.plan, config.seed)
    check_tokenizer(config, corpus)
    torch.manual_seed(config.seed)
    model = Model(config.model, vocabulary_of(config, corpus))
    if config.model.init_from is not None and not checkpoint.saved(config.checkpoint.folder):
        begin_from(model, config.model.init_from, say, corpus)
    config = with_micro_batch(config, model, source, device, say)
    number = model.parameter_count
    measure = None
    if world.config.pp > 1 and world.config.split == "time":
        from trainer.parallel.pipeline import timed  # takes a second

        measure = timed(model, source.batch(np.arange(config.micro)), device)
    learner, watch = Learner(model, config, device, world, measure), Watch(config.plateau, config.early_stop)
    if world.size * world.workers > 1:
        torch.manual_seed(dropout_seed(world, config.seed))
        say(f"{world.size * world.workers} processes: {config.parallel.told}")
    say(
        f"{number:,} weights on {device} ({config.precision}, {torch.get_num_threads()} threads); "
        f"sequences of {config.sequence_length} tokens, documents {config.data.documents}"
    )
    if config.precision == "fp8":
        say(precision.fp8_told(learner.model))
    gauge = Gauge(config, learner, corpus, world, say)
    held_out = None if splits.held_out is None else Validation(splits.held_out)
    if config.lora is not None:
        adapters = sum(one.whole.numel() for one in learner.divided.weights.all if one.whole.requires_grad)
        say(f"{adapters:,} weights of adapters (lora) are trained, the others stay")
    if config.offload is not None and device.type == "cpu":
        say("offload: the device is the CPU already, so nothing is moved")
    data = config.data
    if world.first and not checkpoint.saved(config.checkpoint.folder):
        used, *others = side_by_side(corpus, data.split, config.sequence_length, data.remainder, source.plan)
        say(f"packed by {used.line()}")
        for other in others:
            say(f"instead of {other.line()}")
    coupling = couple(config, corpus, learner)
    guard = Guard(config.guard, len(source.plan.groups)) if config.guard is not None else None
    joined = 0 if coupling is None else coupling.begin(learner.weights)  # above 0 where the others have begun already
    at = None if joined else go_on(config, corpus, splits.weights, learner, watch, say, coupling, guard, planned, found)
    if at is None:
        at = start(config, splits.weights)
        at.step = joined
    samples = samples_of(config, corpus, learner)
    limits = caps(config.data.max_epochs, corpus, source.plan)

    def weights_at(then: TrainConfig) -> dict[str, float] | None:
        return weights_of(then.data.weights, corpus, source.plan, data.split)

    def with_changes(history: History) -> History:
        return foreseen(history, at.step, planned, weights_at)

    history = with_changes(at.history)
    say(length.told(config, history, source.plan, splits.weights))
    check_epochs(order, history, config.last_step, limits)
    attempt, _ = at.history.data_step(at.step + 1)

    def share(sequences: int) -> tuple[int, int]:
        return world.share(sequences, config.micro)

    with (
        closing(journal(config, attempt, at.step, world.first, say)) as log,
        closing(Profile(config.log.profile, config.checkpoint.folder, config.last_step, device, world.rank)) as profile,
        Loader(
            source, order, at.history, data.look_ahead, data.cache.read_ahead, share, config.names_documents
        ) as loader,
        Stop() as stop,
        Saver(world, config.checkpoint) as saver,
        ExitStack() as held,
    ):

        def save() -> None:
            at.save(config, corpus, learner, watch, coupling, guard, saver)

        mending, made = None, [change.step for change in planned.changes if change.step <= at.step + 1]
        if guard is not None:
            since = max(made, default=1) - 1
            mending = Mending(config, world, splits, learner, watch, guard, saver, save, at, since, say)
            held.callback(mending.close)
        gauge.begin(at.step)
        last = at.step if watch.over else planned.stretch(at.step + 1)
        for step, attempt, data_step, batch in gauge.waiting(loader.from_step(at.step + 1, last)):
            stood = replace(at)
            at.step, at.attempt, at.data_step, at.validation_loss = step, attempt, data_step, None
            profile.at(step)
            world.beat(step)
            before = at.tokens
            moment = at.history.at(data_step)
            sequences, parts = moment.global_batch, config.sequence_length // (moment.part or config.sequence_length)
            rate = config.rate(step, sequences) * watch.rate_share * moment.rate_share
            sequences = world.of_worker(sequences, config.micro)
            if coupling is None or coupling.takes_part(step):
                if guard is not None:
                    guard.is_of(f"{moment.weights} {moment.part} {len(made)}")
                learned = learner.learn(batch, rate, step, parts, sequences, guard)
                if mending is not None and not learned.moved and not learned.skipped:
                    mending.mend(at, stood, loader, log)
                    gauge.begin(at.step)
                    continue
                if not learned.moved and not learned.skipped:
                    raise UserError(not_finite(config, at))
                at.tokens += learned.targets if learned.moved else 0
                row = at.place() | figures(learned, learner, sequences, rate)
                row |= {"tokens": at.tokens} | gauge.of_step(learned, batch, moment.part)
                if splits.weights:
                    row["loss_by_group"] = by_group(world, source, batch, learned.losses_B)
                if tells := step % config.log.every == 0 or step in (1, config.last_step):
                    row |= gauge.of_text(learned, batch)
                log.write("step", **row)
                if tells:
                    say(gauge.progress(row))
            grow(config, at, learner, loader, order, limits, with_changes, say)
            if coupling is not None:
                exchanged(coupling, at, at.tokens - before, config.last_step, log, loader, say)

            last_too = step < config.last_step or config.checkpoint.best is not None
            if held_out and last_too and is_nth(step, config.evaluation.every):
                measured = evaluate(learner, held_out, config.evaluation.sequences)
                log.write("evaluation", **at.place(), **measured)
                at.validation_loss = measured["validation_loss"]
                if step < config.last_step:
                    watch.see(at.validation_loss)
                say(f"step {step}: " + told_of(measured))
            if mending is not None:
                mending.after_step(at)
            if samples is not None and is_nth(step, samples.every):
                tell(samples.write(step), at, log, say)
            stopped = world.most(FAILED if saver.failed else stop.signal)
            if stopped == FAILED:
                saver.wait()
            if is_nth(step, config.checkpoint.every) or step == last or stopped or watch.over:
                log.sync()
                world.beat()
                save()
            if stopped:
                saver.wait()
                say(f"stopped after step {step}, which is saved; the same command goes on from there")
                return stopped
            if watch.over:
                break
        if last < config.last_step and not watch.over:
            return None
        if watch.over:
            say(f"ended after step {at.step}: the validation loss no longer falls (early_stop)")
        result = conclude(learner, splits, held_out, at.step)
        log.write("result", **at.place() | vars(result))
    return result


def dropout_seed(world: World, seed: int) -> int:
    """What dropout is drawn by: of its own in each process, but the same in those that do the same work over the same
    places."""
    places = [world.worker, world.reader, world.at("pp"), world.at("cp")]
    places.append(world.at("tp") if world.config.sequence else 0)
    drawn: int = np.random.SeedSequence([seed, *places]).generate_state(1, np.uint64)[0].item()
    return drawn


def grow(
    config: TrainConfig,
    at: Standing,
    learner: Learner,
    loader: Loader,
    order: Order,
    limits: list[float | None],
    with_changes: Callable[[History], History],
    say: Say,
) -> None:
    """Writes a larger batch into the history where the noise scale asks for one, and there is data for it.

    `limits` are those of `caps`; `with_changes` adds to a history what the configuration has for later steps.
    """
    ramp = config.batch_ramp
    if not isinstance(ramp, NoiseRamp):
        return
    upcoming = at.data_step + NOTICE
    batch = at.history.at(upcoming).global_batch
    larger = ramp.grown(at.step, batch, config.global_batch, learner.noise.sequences)
    if larger is None:
        return
    history = at.history.planned([GlobalBatch(data_step=upcoming, global_batch=larger, measured=True)])
    asked = f"noise scale {learner.noise.sequences:,.0f} sequences: batches of {larger} from step {at.step + NOTICE} on"
    try:
        check_epochs(order, with_changes(history), config.last_step, limits)
    except RecipeError as error:
        say(f"{asked} would be too much: {error}")
        return
    at.history = history
    loader.follow(history)
    say(asked)


def is_nth(step: int, every: int | None) -> bool:
    """Whether something is due behind this step; None: never."""
    return every is not None and step % every == 0
