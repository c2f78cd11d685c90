"""Copies of all that a run moves, in the CPU's memory: what a guard goes back to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from trainer import devices
from trainer.learning import Learner
from trainer.plateau import Watch
from trainer.resume import Standing
from trainer.spread import Staging, nested, unwrapped


@dataclass(frozen=True)
class Snapshot:
    """A copy of what is in this process."""

    at: Standing
    """Where the run stood."""
    state: dict[str, Any]
    """Of the learner."""
    watch: dict[str, Any]
    random: dict[str, Any]

    @classmethod
    def of(cls, at: Standing, learner: Learner, watch: Watch) -> Snapshot:
        """As it is now."""
        random = devices.random_state(learner.device)
        return cls(replace(at), _copied(learner.state_dict()), watch.state_dict(), random)

    def restore(self, at: Standing, learner: Learner, watch: Watch) -> None:
        """Puts all back but the history, which goes on. It may be done more than once."""
        learner.load_state_dict(_copied(self.state))  # a copy, since optimisers take tensors as their own
        watch.load_state_dict(self.watch)
        devices.set_random_state(learner.device, self.random)
        at.step, at.tokens, at.validation_loss = self.at.step, self.at.tokens, self.at.validation_loss


class Snapshots:
    """The newest ones, and the one before."""

    def __init__(self) -> None:
        self._held: deque[Snapshot] = deque(maxlen=2)

    def take(self, at: Standing, learner: Learner, watch: Watch) -> None:
        """One more."""
        self._held.append(Snapshot.of(at, learner, watch))

    def before(self, step: int) -> Snapshot | None:
        """The newest of before a step."""
        return next((one for one in reversed(self._held) if one.at.step < step), None)

    def forget(self, step: int) -> None:
        """Drops those of behind a step, which the run has gone back to."""
        while self._held and self._held[-1].at.step > step:
            self._held.pop()


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return nested((way, unwrapped(value)) for way, value in Staging(pinned=False)(state).items())
