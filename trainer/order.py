"""The order of samples: batch d as a pure function of the plan, the seed and the history before d.

Training steps and data steps are counted from 1. The *data step* d says which batch is read, the *step* how often the
weights have moved; they are equal until a jump. The history is an append-only list of events, each of which acts
from its data step on; where a batch begins is an integer found by replaying it. No state is kept anywhere
else, so a run resumes at any step, and a loader may look ahead as far as it wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.blend import Blend, by_tokens, parts
from trainer.packing import Group, Plan
from trainer.permute import permuted, round_keys

VERSION = 1
"""Raised whenever the same plan, seed and history give another order."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    data_step: Annotated[int, Field(ge=1)]
    """The first data step that the event acts on."""


class Start(_Event):
    """The beginning of a run; the first event of every history and of no other place."""

    what: Literal["start"] = "start"
    global_batch: int
    sequence_length: int
    seed: int


class GlobalBatch(_Event):
    """Another number of sequences a batch."""

    what: Literal["global_batch"] = "global_batch"
    global_batch: Annotated[int, Field(ge=1)]


class LeaveOut(_Event):
    """Documents (ids as hex) whose places become holes without loss; no other sample moves."""

    what: Literal["leave_out"] = "leave_out"
    documents: tuple[str, ...]


class Weights(_Event):
    """Other shares of tokens, by group. Each group is read on from where it stands."""

    what: Literal["weights"] = "weights"
    weights: dict[str, Annotated[float, Field(ge=0)]]


class Jump(_Event):
    """A new attempt: `step`, and those after it, read `data_step` and those after it."""

    what: Literal["jump"] = "jump"
    step: Annotated[int, Field(ge=1)]


Ints = npt.NDArray[np.int64]

Event = Annotated[Start | GlobalBatch | LeaveOut | Weights | Jump, Field(discriminator="what")]


@dataclass(frozen=True)
class Moment:
    """What the history makes of one data step."""

    cursor: int
    """Sequences of all batches before this one."""
    global_batch: int
    """Sequences of this batch."""
    left_out: frozenset[str]
    """Ids (hex) of the documents left out of it."""
    weights: dict[str, float] | None = None
    """Shares of tokens by group; None where no event gave any."""


class History(BaseModel):
    """The events of a run, in the order in which they were written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: tuple[Event, ...]

    @model_validator(mode="after")
    def _in_order(self) -> History:
        if not self.events or not isinstance(self.events[0], Start) or self.events[0].data_step != 1:
            raise ValueError("a history begins with `start` at data step 1")
        if any(isinstance(event, Start) for event in self.events[1:]):
            raise ValueError("a history has one `start`")
        for before, after in zip(self.events, self.events[1:], strict=False):
            if after.data_step < before.data_step:
                raise ValueError(f"data step {after.data_step} was written behind {before.data_step}")
        step, data_step = 1, 1
        for jump in self._jumps():
            if jump.step < step or jump.data_step - data_step < jump.step - step:
                raise ValueError(f"the jump to data step {jump.data_step} goes back to batches that were read")
            step, data_step = jump.step, jump.data_step
        return self

    @property
    def start(self) -> Start:
        """The first event."""
        assert isinstance(self.events[0], Start)
        return self.events[0]

    def then(self, event: Start | GlobalBatch | LeaveOut | Weights | Jump) -> History:
        """This history with an event behind it. Raises ValueError where it does not follow."""
        return History(events=(*self.events, event))

    def at(self, data_step: int) -> Moment:
        """What holds at a data step: the events up to it, replayed."""
        if data_step < 1:
            raise ValueError(f"data steps are counted from 1, not {data_step}")
        cursor, since, batch = 0, 1, self.start.global_batch
        left_out: set[str] = set()
        weights = None
        for event in self.events:
            if event.data_step > data_step:
                break
            if isinstance(event, GlobalBatch):
                cursor, since, batch = cursor + (event.data_step - since) * batch, event.data_step, event.global_batch
            elif isinstance(event, LeaveOut):
                left_out.update(event.documents)
            elif isinstance(event, Weights):
                weights = event.weights
        return Moment(cursor + (data_step - since) * batch, batch, frozenset(left_out), weights)

    def weighings(self) -> tuple[tuple[int, tuple[tuple[str, float], ...]], ...]:
        """Each change of weights: the number of the first sequence that it acts on, and the weights by group."""
        return tuple(
            (self.at(event.data_step).cursor, tuple(event.weights.items()))
            for event in self.events
            if isinstance(event, Weights)
        )

    def data_step(self, step: int) -> tuple[int, int]:
        """(attempt, data step) of a training step. Attempts are counted from 0."""
        if step < 1:
            raise ValueError(f"steps are counted from 1, not {step}")
        attempt, from_step, from_data_step = 0, 1, 1
        for number, jump in enumerate(self._jumps(), 1):
            if jump.step <= step:
                attempt, from_step, from_data_step = number, jump.step, jump.data_step
        return attempt, from_data_step + step - from_step

    def step(self, data_step: int) -> tuple[int, int] | None:
        """(attempt, step) that read a data step, or None where a jump left it out."""
        attempt, from_step, from_data_step = 0, 1, 1
        for number, jump in enumerate(self._jumps(), 1):
            if jump.data_step <= data_step:
                attempt, from_step, from_data_step = number, jump.step, jump.data_step
        step = from_step + data_step - from_data_step
        return (attempt, step) if self.data_step(step) == (attempt, data_step) else None

    def find(self, position: int) -> int:
        """The data step whose batch holds `position`, the number of a sequence from the beginning of the run."""
        cursor, since, batch = 0, 1, self.start.global_batch
        for event in self.events:
            if isinstance(event, GlobalBatch):
                reached = cursor + (event.data_step - since) * batch
                if position < reached:
                    break
                cursor, since, batch = reached, event.data_step, event.global_batch
        return since + (position - cursor) // batch

    def _jumps(self) -> list[Jump]:
        return [event for event in self.events if isinstance(event, Jump)]


@dataclass(frozen=True)
class _Stretch:
    """What lies between two changes of weights."""

    first: int
    """Number of its first sequence, from the beginning of the run."""
    read: tuple[int, ...]
    """(groups,): how many sequences of each group were read before it."""
    blend: Blend


@dataclass(frozen=True)
class Order:
    """The order in which the sequences of a plan are read.

    Each group is read epoch after epoch, every epoch in a permutation of its own; the weights say which group is next,
    and nothing else. A corpus in layout `mixed` is one group.
    """

    plan: Plan
    seed: int

    def batch(self, history: History, data_step: int) -> Ints:
        """(global batch,): the sequences of batch `data_step`. A batch may lie across two epochs."""
        moment = history.at(data_step)
        return self.read(history, np.arange(moment.cursor, moment.cursor + moment.global_batch))

    def read(self, history: History, positions: Ints) -> Ints:
        """The sequences at positions (B,), counted from the beginning of the run; same shape."""
        stretches = self._stretches(history)
        number = np.searchsorted([stretch.first for stretch in stretches], positions, side="right") - 1
        sequences = np.empty_like(positions)
        for stretch in np.unique(number).tolist():
            here = np.flatnonzero(number == stretch)
            group, inside = stretches[stretch].blend.split(positions[here] - stretches[stretch].first)
            for one in np.unique(group).tolist():
                own = group == one
                sequences[here[own]] = self._of_group(one, inside[own] + stretches[stretch].read[one])
        return sequences

    def positions(self, history: History, sequences: Ints, before: int) -> Ints:
        """Where these sequences are read, before position `before`, counted from the beginning of the run; sorted."""
        stretches, counts = self._stretches(history), self.counts(history, before)
        found = []
        for group, facts in enumerate(self.plan.groups):
            own = sequences[(sequences >= facts.first) & (sequences < facts.first + facts.sequences)] - facts.first
            if not len(own):
                continue
            for epoch in range(-(-int(counts[group]) // facts.sequences)):
                inside = permuted(own, facts.sequences, self._keys(group, epoch)[::-1], inverse=True)
                numbers = epoch * facts.sequences + inside
                found += [self._position(stretches, group, n) for n in numbers[numbers < counts[group]].tolist()]
        return np.array(sorted(found), np.int64)

    def counts(self, history: History, position: int) -> Ints:
        """(groups,): how many sequences of each group are read before a position."""
        stretch = [s for s in self._stretches(history) if s.first <= position][-1]
        return np.array(stretch.read) + stretch.blend.counts(position - stretch.first)

    def position(self, history: History, group: int, number: int) -> int:
        """Where the `number`-th sequence that is read of a group is read, both from 0."""
        return self._position(self._stretches(history), group, number)

    def _position(self, stretches: tuple[_Stretch, ...], group: int, number: int) -> int:
        # the last stretch that begins with no more of the group behind it reads it: one without the group has as many
        stretch = [s for s in stretches if s.read[group] <= number][-1]
        if not stretch.blend.parts[group]:
            raise ValueError(f"{number} sequences of group {group} are never read")
        return stretch.first + int(stretch.blend.samples(group, np.array([number - stretch.read[group]]))[0])

    def _of_group(self, group: int, numbers: Ints) -> Ints:
        """The sequences that a group gives, by how many it gave before (B,); same shape."""
        facts = self.plan.groups[group]
        epochs, inside = np.divmod(numbers, facts.sequences)
        sequences = np.empty_like(inside)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            sequences[here] = permuted(inside[here], facts.sequences, self._keys(group, epoch))
        return sequences + facts.first

    def _keys(self, group: int, epoch: int) -> tuple[int, ...]:
        return round_keys(f"order/{VERSION}/{self.seed}/{epoch}/{self.plan.groups[group].fingerprint}")

    def _stretches(self, history: History) -> tuple[_Stretch, ...]:
        return _stretches(self.plan.groups, self.seed, history.weighings())


@lru_cache(maxsize=16)
def _stretches(
    groups: tuple[Group, ...], seed: int, weighings: tuple[tuple[int, tuple[tuple[str, float], ...]], ...]
) -> tuple[_Stretch, ...]:
    """The stretches of a history. Before the first weights, groups are read as large as they are."""
    key = f"blend/{VERSION}/{seed}"
    found = [_Stretch(0, (0,) * len(groups), Blend(parts([group.sequences for group in groups]), f"{key}/0"))]
    for number, (first, weights) in enumerate(weighings, 1):
        before = found[-1]
        read = np.array(before.read) + before.blend.counts(first - before.first)
        shares = dict(weights)
        blend = Blend(
            parts(by_tokens([(shares[g.name or ""], g.sequences, g.tokens) for g in groups])), f"{key}/{number}"
        )
        if first == before.first:
            found.pop()
        found.append(_Stretch(first, tuple(read.tolist()), blend))
    return tuple(found)
