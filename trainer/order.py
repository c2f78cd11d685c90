"""The order of samples: batch d as a pure function of the plan, the seed and the history before d.

Training steps and data steps are counted from 1. The *data step* d says which batch is read, the *step* how often the
weights have moved; they are equal until a jump. The history is an append-only list of events, each of which acts
from its data step on; where a batch begins is an integer found by replaying it. No state is kept anywhere
else, so a run resumes at any step, and a loader may look ahead as far as it wants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.packing import Plan

VERSION = 1
"""Raised whenever the same plan, seed and history give another order."""

ROUNDS = 8


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


class Jump(_Event):
    """A new attempt: `step`, and those after it, read `data_step` and those after it."""

    what: Literal["jump"] = "jump"
    step: Annotated[int, Field(ge=1)]


Event = Annotated[Start | GlobalBatch | LeaveOut | Jump, Field(discriminator="what")]


@dataclass(frozen=True)
class Moment:
    """What the history makes of one data step."""

    cursor: int
    """Sequences of all batches before this one."""
    global_batch: int
    """Sequences of this batch."""
    left_out: frozenset[str]
    """Ids (hex) of the documents left out of it."""


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

    def then(self, event: Start | GlobalBatch | LeaveOut | Jump) -> History:
        """This history with an event behind it. Raises ValueError where it does not follow."""
        return History(events=(*self.events, event))

    def at(self, data_step: int) -> Moment:
        """What holds at a data step: the events up to it, replayed."""
        if data_step < 1:
            raise ValueError(f"data steps are counted from 1, not {data_step}")
        cursor, since, batch = 0, 1, self.start.global_batch
        left_out: set[str] = set()
        for event in self.events:
            if event.data_step > data_step:
                break
            if isinstance(event, GlobalBatch):
                cursor, since, batch = cursor + (event.data_step - since) * batch, event.data_step, event.global_batch
            elif isinstance(event, LeaveOut):
                left_out.update(event.documents)
        return Moment(cursor + (data_step - since) * batch, batch, frozenset(left_out))

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
class Order:
    """The order in which the sequences of a plan are read, epoch after epoch, each in a permutation of its own."""

    plan: Plan
    seed: int

    def batch(self, history: History, data_step: int) -> npt.NDArray[np.int64]:
        """(global batch,): the sequences of batch `data_step`. A batch may lie across two epochs."""
        moment = history.at(data_step)
        return self.read(np.arange(moment.cursor, moment.cursor + moment.global_batch))

    def read(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sequences at positions counted from the beginning of the run; same shape."""
        epochs, inside = np.divmod(positions, self.plan.sequences)
        sequences = np.empty_like(inside)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            sequences[here] = permuted(inside[here], self.plan.sequences, self._keys(epoch))
        return sequences

    def positions(self, sequences: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """Where an epoch reads these sequences, counted from the beginning of the run; same shape."""
        inside = permuted(sequences, self.plan.sequences, self._keys(epoch)[::-1], inverse=True)
        return epoch * self.plan.sequences + inside

    def _keys(self, epoch: int) -> tuple[int, ...]:
        return _round_keys(f"order/{VERSION}/{self.seed}/{epoch}/{self.plan.fingerprint}")


@lru_cache(maxsize=64)
def _round_keys(facts: str) -> tuple[int, ...]:
    digest = hashlib.blake2b(facts.encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * r : 8 * r + 8], "little") for r in range(ROUNDS))


def permuted(
    numbers: npt.NDArray[np.int64], size: int, keys: Sequence[int], inverse: bool = False
) -> npt.NDArray[np.int64]:
    """A keyed permutation of 0 .. size - 1 at `numbers`, in constant memory; same shape.

    A balanced Feistel network over the least even number of bits that holds `size`, walked until the result is below
    `size` (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", sections 4 and 5). It rests on integers
    alone: numpy's own permutations may differ between its versions. `inverse` takes the keys in reverse.
    """
    half = max(1, -(-(size - 1).bit_length() // 2))
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    result = np.array(numbers, np.uint64)
    walking = np.arange(result.size)
    flat = result.reshape(-1)
    while walking.size:
        left, right = flat[walking] >> bits, flat[walking] & mask
        if inverse:
            left, right = right, left
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & mask)
        if inverse:
            left, right = right, left
        flat[walking] = left << bits | right
        walking = walking[flat[walking] >= size]
    return result.astype(np.int64)


def _mix(values: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser (Steele et al. 2014) over value and key."""
    mixed = values + np.uint64(key)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)
