"""The mixture of a corpus in layout `by_source`: shares of tokens by group, and how often a group may be read."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.errors import RecipeError, nearest
from pipeline.shards import Corpus
from trainer.history import History
from trainer.order import Order
from trainer.packing import Group, Plan


def weights_of(weights: Mapping[str, float] | None, corpus: Corpus, plan: Plan, split: str) -> dict[str, float] | None:
    """The shares of tokens, by group, that weights of any scale ask for in the plan of a split; they add up to 1.
    Without weights those of `mixture.json`, which is of training: another split is read as it is.

    None where nothing is weighed, as in layout `mixed`.

    Raises RecipeError where they do not fit the corpus.
    """
    if corpus.layout != "by_source":
        if weights is not None:
            raise RecipeError(
                f"data.weights: the mixture of {corpus.folder} is in its shards (layout mixed). To weigh at train time "
                "set shards.layout: by_source in its recipe and run it again; only its last phase is redone"
            )
        return None
    if weights is None and split != "train":
        return None
    here = {group.name or "": group for group in plan.groups}
    mixture = corpus.mixture()["groups"]
    known = sorted(mixture.keys() | here.keys())
    if weights is None:
        key = f"{corpus.folder}/mixture.json"
        asked = {name: float(facts["share"]) for name, facts in mixture.items()}
    else:
        key, asked = "data.weights", dict(weights)
    for name, weight in asked.items():
        if not 0 <= weight < math.inf:
            raise RecipeError(f"{key}: the weight of '{name}' is {weight}; give it 0 or more")
        if name not in known:
            raise RecipeError(f"{key}: {corpus.folder} has no group '{name}'.{nearest(name, known)}")
    missing = sorted(here.keys() - asked.keys())
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        named = ", ".join(missing[:5]) + more
        raise RecipeError(f"{key} gives no weight for {named}; give every group one (0 leaves it out)")
    empty = [name for name in asked if asked[name] and (name not in here or not here[name].sequences)]
    if empty:
        raise RecipeError(
            f"{key}: group '{empty[0]}' has no documents in split '{split}' of {corpus.folder}; give it 0"
        )
    total = sum(asked.values())
    if not total:
        raise RecipeError(f"{key}: all weights are 0; give at least one group more")
    return {name: asked[name] / total for name in sorted(here)}


def read_groups(plan: Plan, weights: Mapping[str, float] | None) -> list[Group]:
    """The groups of a plan that are read under weights as of `weights_of`: those with one above 0."""
    return [group for group in plan.groups if weights is None or weights[group.name or ""]]


def caps(max_epochs: float | None, corpus: Corpus, plan: Plan) -> list[float | None]:
    """How many epochs of each group may be read, in the order of the plan's groups: `max_epochs`, or as `mixture.json`
    has it; None: no limit."""
    if max_epochs is not None or corpus.layout != "by_source":
        return [None if max_epochs == math.inf else max_epochs] * len(plan.groups)
    mixture = corpus.mixture()["groups"]
    return [mixture.get(group.name or "", {}).get("max_epochs") for group in plan.groups]


def check_epochs(order: Order, history: History, last_step: int, limits: list[float | None]) -> None:
    """Raises RecipeError where a group would be read beyond its limit by training step `last_step`.

    It names the step at which each such group ends, and what would do.
    """
    moment = history.at(history.data_step(last_step)[1])
    end = moment.cursor + moment.global_batch
    counts = order.counts(history, end)
    since = history.weighings()[-1][0] if history.weighings() else 0
    before = order.counts(history, since)
    most_of_all = [
        int(limit * g.sequences) if limit else end for g, limit in zip(order.plan.groups, limits, strict=True)
    ]
    faults = []
    for number, (group, limit) in enumerate(zip(order.plan.groups, limits, strict=True)):
        most = most_of_all[number]
        if limit is None or counts[number] <= most:
            continue
        at = history.step(history.find(order.position(history, number, most)))
        step = at[1] if at else last_step  # in a jump: it ends before the run does
        options = [f"steps: {step - 1}"] if step > 1 else []
        if sum(most_of_all) >= end and most > before[number]:  # else no weights would do
            share = max(0.0, (most - int(before[number])) / (end - since))
            options.append(
                f"a weight of about {_share_of_tokens(counts - before, order.plan, number, share):.3g} of all"
            )
        options.append(f"data.max_epochs: {int(counts[number] / group.sequences * 10 + 1) / 10:g}")
        named = f"group '{group.name}'" if group.name else f"the split of {group.tokens:,} tokens"
        line = f"{named} ends at step {step} of {last_step}, read {limit:g} times; "
        faults.append(
            (step, f"{line}possible are {', '.join(options[:-1])}{' or ' if options[:-1] else ''}{options[-1]}")
        )
    if faults:
        lines = [line for _, line in sorted(faults)]
        if sum(most_of_all) < end:
            at = history.step(history.find(sum(most_of_all)))
            last = max(1, at[1] - 1) if at else last_step
            lines.append(f"all together last for about {last} steps, whatever the weights")
        raise RecipeError("too little data for the weights and steps:\n  " + "\n  ".join(lines))


def _share_of_tokens(read: npt.NDArray[np.int64], plan: Plan, group: int, share: float) -> float:
    """The share of tokens that a group has with this share of the sequences, the others being read as they are."""
    dense = np.array([g.tokens / max(1, g.sequences) for g in plan.groups])
    others = np.delete(read, group)
    own, rest = share * dense[group], (1 - share) * float(others @ np.delete(dense, group)) / max(1, int(others.sum()))
    return float(own / (own + rest)) if own else 0.0
