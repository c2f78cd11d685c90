"""The data history: the events of a run, each of which acts from its data step on.

What has acted stays for good. What is only planned (batches and lengths of steps to come) a resume may plan anew.

Training steps and data steps are counted from 1. The *data step* d says which batch is read, the *step* how often the
weights have moved; they are equal until a jump. Where a batch begins is an integer found by replaying the events; what
the replay finds is kept, since a loader asks for every batch. No state is kept anywhere else, so a run resumes at any
step, and a loader may look ahead as far as it wants.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    measured: bool = False
    """Whether the noise scale asked for it; else it was planned, and may be planned anew until it acts."""


class LeaveOut(_Event):
    """Documents (ids as hex) whose places become holes without loss; no other sample moves."""

    what: Literal["leave_out"] = "leave_out"
    documents: tuple[str, ...]


class Weights(_Event):
    """Other shares of tokens, by group. Each group is read on from where it stands."""

    what: Literal["weights"] = "weights"
    weights: dict[str, Annotated[float, Field(ge=0)]]


class Length(_Event):
    """Sequences are read in parts of so many places, which divide the length that they were packed in."""

    what: Literal["length"] = "length"
    sequence_length: Annotated[int, Field(ge=2)]


class Cool(_Event):
    """A lower learning rate: `share` of it at first, rising evenly to all of it over so many data steps."""

    what: Literal["cool"] = "cool"
    share: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]


class Changed(_Event):
    """Other settings from here on; for the record: what a run does follows from its configuration."""

    what: Literal["changed"] = "changed"
    step: Annotated[int, Field(ge=1)]
    set: dict[str, Any]


class Jump(_Event):
    """A new attempt: `step`, which may have been made before, and those after it read `data_step` and those after
    it."""

    what: Literal["jump"] = "jump"
    step: Annotated[int, Field(ge=1)]


AnyEvent = Start | GlobalBatch | LeaveOut | Weights | Length | Cool | Changed | Jump

Event = Annotated[AnyEvent, Field(discriminator="what")]


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
    part: int | None = None
    """Places of the parts in which its sequences are read; None: whole."""
    rate_share: float = 1.0
    """What the learning rate is multiplied by."""


class History(BaseModel):
    """The events of a run, by the data steps from which they act."""

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
            if jump.data_step - data_step < max(0, jump.step - step):
                raise ValueError(f"the jump to data step {jump.data_step} goes back to batches that were read")
            step, data_step = jump.step, jump.data_step
        return self

    @property
    def start(self) -> Start:
        """The first event."""
        assert isinstance(self.events[0], Start)
        return self.events[0]

    def then(self, event: AnyEvent) -> History:
        """This history with an event behind it. Raises ValueError where it does not follow."""
        return History(events=(*self.events, event))

    def planned(self, events: Iterable[AnyEvent]) -> History:
        """This history with events that may act before some that it has: each goes behind those of its data step."""
        return History(events=tuple(sorted((*self.events, *events), key=lambda event: event.data_step)))

    def at(self, data_step: int) -> Moment:
        """What holds at a data step: the events up to it, replayed."""
        if data_step < 1:
            raise ValueError(f"data steps are counted from 1, not {data_step}")
        since, cursor, batch = _last(self._batches, data_step)
        weights = _last(self._weights, data_step)[1] if self._weights else None
        part = _last(self._parts, data_step)[1] if self._parts else None
        position = cursor + (data_step - since) * batch
        return Moment(position, batch, self._left_out(data_step), weights, part, self._rate_share(data_step))

    def weighings(self) -> tuple[tuple[int, tuple[tuple[str, float], ...]], ...]:
        """Each change of weights: the number of the first sequence that it acts on, and the weights by group."""
        return tuple(
            (self._cursor(event.data_step), tuple(event.weights.items()))
            for event in self.events
            if isinstance(event, Weights)
        )

    # What a replay finds, kept: a loader asks for every batch, and a long run has thousands of events.

    @cached_property
    def _batches(self) -> list[tuple[int, int, int]]:
        """(data step, sequences before it, sequences of a batch from it on)."""
        found = [(1, 0, self.start.global_batch)]
        for event in self.events:
            if isinstance(event, GlobalBatch):
                since, cursor, batch = found[-1]
                found.append((event.data_step, cursor + (event.data_step - since) * batch, event.global_batch))
        return found

    @cached_property
    def _weights(self) -> list[tuple[int, dict[str, float] | None]]:
        """(data step, weights from it on)."""
        found: list[tuple[int, dict[str, float] | None]] = [(1, None)]
        found += [(event.data_step, event.weights) for event in self.events if isinstance(event, Weights)]
        return found if len(found) > 1 else []

    @cached_property
    def _parts(self) -> list[tuple[int, int | None]]:
        """(data step, places of a part from it on)."""
        found: list[tuple[int, int | None]] = [(1, None)]
        whole = self.start.sequence_length
        for event in self.events:
            if isinstance(event, Length):
                found.append((event.data_step, event.sequence_length if event.sequence_length != whole else None))
        return found if len(found) > 1 else []

    @cached_property
    def _coolings(self) -> list[Cool]:
        return [event for event in self.events if isinstance(event, Cool)]

    def _rate_share(self, data_step: int) -> float:
        share = 1.0
        for event in self._coolings:
            if event.data_step <= data_step:
                risen = min(1.0, (data_step - event.data_step) / event.steps)
                share *= event.share + (1 - event.share) * risen
        return share

    @cached_property
    def _leavings(self) -> list[LeaveOut]:
        return [event for event in self.events if isinstance(event, LeaveOut)]

    @cached_property
    def _left_out_before(self) -> dict[int, frozenset[str]]:
        """By how many of the leavings count: the documents; the one that was asked for last."""
        return {0: frozenset()}

    def _left_out(self, data_step: int) -> frozenset[str]:
        many = bisect_right(self._leavings, data_step, key=lambda event: event.data_step) if self._leavings else 0
        held = self._left_out_before.get(many)
        if held is None:
            held = frozenset().union(*(event.documents for event in self._leavings[:many]))
            self._left_out_before.clear()
            self._left_out_before[many] = held
        return held

    def _cursor(self, data_step: int) -> int:
        since, cursor, batch = _last(self._batches, data_step)
        return int(cursor + (data_step - since) * batch)

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

    def sequences(self, step: int) -> int:
        """Sequences of the batches that training steps 1 to `step` read, those aside that a jump left out."""
        begun = [(1, 1)]  # (step, data step) of each stretch without a jump
        for jump in self._jumps():
            begun = [stretch for stretch in begun if stretch[0] < jump.step] + [(jump.step, jump.data_step)]
        ends = [first for first, _ in begun[1:]] + [step + 1]
        return sum(
            self._cursor(data_step + min(end, step + 1) - first) - self._cursor(data_step)
            for (first, data_step), end in zip(begun, ends, strict=True)
            if first <= step
        )

    def find(self, position: int) -> int:
        """The data step whose batch holds `position`, the number of a sequence from the beginning of the run."""
        number = bisect_right(self._batches, position, key=lambda row: row[1]) - 1
        since, cursor, batch = self._batches[number]
        return since + (position - cursor) // batch

    def _jumps(self) -> list[Jump]:
        return [event for event in self.events if isinstance(event, Jump)]


def _last(rows: list[Any], data_step: int) -> Any:
    """The last of these rows, each of which begins with a data step, that begins by this one."""
    return rows[bisect_right(rows, data_step, key=itemgetter(0)) - 1] if len(rows) > 1 else rows[0]
