"""The way into training: reads the configuration, checks everything that can be checked, then trains."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import RecipeError, UserError
from pipeline.shards import Corpus
from trainer.config import TrainConfig, load_config
from trainer.data import Source, Splits, check_left_out
from trainer.length import settled
from trainer.mixture import read_groups, weights_of
from trainer.model_parts import Learned
from trainer.objectives import facts_of, vocabulary_of
from trainer.packing import Plan, plan
from trainer.parallel_settings import started_rank
from trainer.remote import opened


def train(config_path: Path | str, overrides: Sequence[str] = (), say: Callable[[str], None] | None = None) -> int:
    """Trains as the YAML file says, with overrides such as `model.layers=4`; lines of progress go to `say`.

    Returns the exit code: 0; 1 where `require_below_unigram` was not reached; 130 or 143 where Ctrl-C or SIGTERM
    stopped it (with a checkpoint). Raises UserError for what the user can mend, before the first step where possible.
    """
    say = say or (lambda line: print(line, flush=True))
    if started_rank() > 0:
        say = nothing
    config = load_config(Path(config_path), overrides)
    splits = checked(config)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("training needs torch; install it with `pip install 'corpusmill[train]'`") from error
    from trainer import checkpoint, devices
    from trainer.loop import fit

    found = checkpoint.newest(config.checkpoint.folder, nothing) if config.steps is None else None
    done = None if found is None else (found[1].step, found[1].history)
    config = settled(config, splits.train.plan, splits.weights, done)

    if config.model.attention == "flex" and devices.choose(config.device).type == "cpu":
        raise RecipeError("model.attention: flex cannot be trained with on the CPU; set it to auto or sdpa")

    try:
        result = fit(config, splits, say, checked)
    except KeyboardInterrupt:
        say("stopped at once; steps since the last checkpoint are lost")
        return 130
    if isinstance(result, int):
        return 128 + result
    if result.validation_loss is None or result.unigram_entropy is None:
        say(f"done after {result.step} steps; metrics in {config.log_file}")
        return 0
    below = result.unigram_entropy - result.validation_loss
    say(
        f"done: validation loss {result.validation_loss:.4f} nats/token, {abs(below):.4f} "
        f"{'under' if below >= 0 else 'above'} the corpus's unigram "
        f"entropy of {result.unigram_entropy:.4f} (unigram loss on validation {result.validation_unigram:.4f})"
    )
    say(f"checkpoints in {config.checkpoint.folder}, metrics in {config.log_file}")
    if config.require_below_unigram is not None and below < config.require_below_unigram:
        say(
            f"not enough: require_below_unigram asks for {config.require_below_unigram} nats under the unigram "
            "entropy. Train longer, or look at the metrics for where the loss stopped falling."
        )
        return 1
    return 0


def nothing(line: str) -> None:
    """What all processes but the first say."""


def checked(config: TrainConfig) -> Splits:
    """The splits that the configuration names. Raises UserError where it and its corpus cannot work together."""
    if config.seed >= 1 << 64:
        raise RecipeError(f"seed: {config.seed} is more than 64 bits hold; give one below 2^64")
    corpus = opened(config.data.corpus, config.data.cache)
    vocabulary_of(config, corpus)
    for key, split in (("data.split", config.data.split), ("data.validation", config.data.validation)):
        if split is None:
            continue
        if split not in corpus.splits:
            without = "; with null nothing is evaluated" if key == "data.validation" else ""
            raise RecipeError(
                f"{key}: {corpus.folder} has no split '{split}'; it has {', '.join(corpus.splits)}{without}"
            )
        if sum(shard.tokens for shard in corpus.shards(split)) < 2:
            raise RecipeError(
                f"{key}: split '{split}' of {corpus.folder} is empty; make the corpus larger or name another"
            )
    source = source_of(config, corpus, config.data.split)
    weights = weights_of(config.data.weights, corpus, source.plan, config.data.split)
    for step in (1, *(change.step for change in config.changes)):
        check_batch(config.at(step), corpus, source.plan)
    splits = [split for split in (config.data.split, config.data.validation) if split is not None]
    check_left_out(corpus, splits, config.data.prefix_loss, config.data.prompt_loss)
    if isinstance(config.model.positions, Learned) and (most := widest(source)) > config.model.positions.limit:
        raise RecipeError(
            f"model.positions.limit: objective {config.objective.kind} makes sequences of {most} places of "
            f"{config.sequence_length} tokens, more than the {config.model.positions.limit} learned positions; "
            "raise the limit or lower sequence_length"
        )
    source.numbers(frozenset(config.data.leave_out))  # all in one look at the tables
    unknown = [text for text in config.data.leave_out if not source.numbers(frozenset({text}))]
    if unknown:
        raise RecipeError(
            f"data.leave_out: split '{config.data.split}' of {corpus.folder} has no document {unknown[0]}; "
            "`corpusmill trace` prints ids"
        )
    validation = config.data.validation
    if validation is None:
        return Splits(source, None, weights)
    return Splits(source, replace(source, plan=packed_as(config, corpus, validation)), weights)


def check_batch(config: TrainConfig, corpus: Corpus, plan: Plan) -> None:
    """Raises RecipeError where a batch would hold more sequences than there are to read."""
    split = config.data.split
    weights = weights_of(config.data.weights, corpus, plan, split)
    read = read_groups(plan, weights)
    sequences = sum(group.sequences for group in read)
    if sequences < config.global_batch:
        weightless = ", its groups of weight 0 left out," if len(read) < len(plan.groups) else ""
        raise RecipeError(
            f"split '{split}' of {corpus.folder}{weightless} packs into {sequences} sequences of "
            f"{config.sequence_length} tokens, fewer than one global_batch of {config.global_batch}; "
            "make global_batch or sequence_length smaller, or the corpus larger"
        )


def widest(source: Source) -> int:
    """Places of the longest side of what a model reads, which do not depend on what a batch holds."""
    batch = source.batch(np.arange(1))
    sides = [batch.tokens_BT] + ([batch.encoder.tokens_BS] if batch.encoder is not None else [])
    return max(len(side[0]) for side in sides)


def source_of(config: TrainConfig, corpus: Corpus, split: str) -> Source:
    """The sequences of a split as the configuration packs and reads them."""
    data, packed = config.data, packed_as(config, corpus, split)
    objective = config.objective.transform(facts_of(config, corpus))
    return Source(corpus, packed, data.prefix_loss, objective, data.documents == "joined", data.prompt_loss)


def packed_as(config: TrainConfig, corpus: Corpus, split: str) -> Plan:
    """The plan of a split, as the configuration packs it."""
    remainder = config.data.remainder if split == config.data.split else None  # validation is read to its last token
    return plan(corpus, split, config.sequence_length, config.data.packing, remainder)


def main(arguments: Sequence[str]) -> int:
    """`python -m trainer CONFIG [KEY=VALUE ...] [--set KEY=VALUE ...]`; returns the exit code."""
    parser = argparse.ArgumentParser("python -m trainer", description="As `corpusmill train`, for launchers.")
    parser.add_argument("config", help="a training configuration, see configs/")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings in place of the configuration's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="the same, as often as needed")
    asked = parser.parse_intermixed_args(arguments)
    try:
        return train(asked.config, asked.changes + asked.set)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        _leave(error, again=False)
        return error.exit_code
    except Exception as error:
        _leave(error, again=True)
        raise


def _leave(error: Exception, again: bool) -> None:
    """Leaves an error for the launcher: one of many processes whose own fault it is not, or that may not come again.

    An error of the user's is shown, and would come again; the launcher is to end with its exit code.
    """
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from trainer.parallel.faults import LostError, record

        if again or isinstance(error, LostError):
            record(error)
