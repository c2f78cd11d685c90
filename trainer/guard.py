"""The guard: watches what steps find, and says what is to be done about a bad one.

Figures are compared before the weights move, so that most bad steps do no harm: they are made again without the
documents at fault, or left out. Where that does not help, or a move was too large, the weights go back to a snapshot,
as in Chowdhery et al. 2022, section 5.1, where batches around a spike are then left out; spikes are told from noise by
their distance from the mean of the last steps, in standard deviations.

All processes see the same figures, so all decide alike. `trainer.mending` acts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainer.batch import Batch
from trainer.guard_settings import GuardConfig, OutliersConfig
from trainer.kernels import fade, judge

Floats = npt.NDArray[np.float64]
Why = Literal["not_finite", "loss", "gradient_norm", "update_norm", "documents"]
Action = Literal["documents", "step", "rollback", "end"]

LEAST = 8
"""Good steps below which nothing is a spike."""
FLAT = 0.02
"""Least standard deviation that is reckoned with: of a loss as a share of its mean; of a norm, of its logarithm. Runs
whose figures hardly move would otherwise see spikes in rounding."""
LEAST_DOCUMENTS = 64
"""Documents below which none stands out."""
SAMPLE = 2
"""Version of the sample of the weights by which the size of a move is told: those of others compare with none of it."""
KNOWN = 512
"""Documents after which what is known of those before has faded to a third: losses fall, and a mean of long ago would
hide what stands out now."""


@dataclass(frozen=True)
class Figure:
    """A figure against those of the steps before."""

    value: float
    mean: float
    sd: float

    @property
    def sigmas(self) -> float:
        """Standard deviations above the mean."""
        return (self.value - self.mean) / self.sd  # -inf of a norm of 0

    def told(self) -> dict[str, float]:
        """For the log."""
        return {"value": self.value, "mean": self.mean, "sd": self.sd, "sigmas": self.sigmas}


@dataclass(frozen=True)
class Trouble:
    """A bad step."""

    why: tuple[Why, ...]
    figures: dict[Why, Figure]
    """By name: loss (nats per target), gradient_norm and update_norm (their logarithms)."""
    outliers: int
    """Documents that stand out, in all processes."""
    most: bool
    """Whether those are most of the step's: then it is not they that are at fault."""

    @property
    def harmed(self) -> bool:
        """Whether the weights are no longer what they should be: the step before moved them too far."""
        return "update_norm" in self.why


class Window:
    """The last good values of a figure, with their sums, since each step asks for them."""

    def __init__(self, size: int, relative: bool) -> None:
        self.values: deque[float] = deque()
        self._size, self._relative = size, relative
        self._sum = self._squares = 0.0

    def add(self, value: float) -> None:
        """One more; the oldest goes where there are enough."""
        gone = self.values.popleft() if len(self.values) == self._size else 0.0
        self.values.append(value)
        self._sum += value - gone
        self._squares += value**2 - gone**2

    def set(self, values: Iterable[float]) -> None:
        """These in place of those that are there."""
        self.values = deque(values)
        self._sum, self._squares = sum(self.values), sum(value**2 for value in self.values)

    def settle(self) -> None:
        """Makes the sums anew, as a run that begins with these values does."""
        self.set(self.values)

    def usual(self) -> tuple[float, float]:
        """Their mean and standard deviation; NaN where there are too few."""
        count = len(self.values)
        if count < LEAST:
            return math.nan, math.nan
        mean = self._sum / count
        sd = math.sqrt(max(0.0, self._squares / count - mean**2))
        return mean, max(sd, FLAT * abs(mean) if self._relative else FLAT)

    def limit(self, sigmas: float) -> float:
        """The value that lies so many standard deviations above the mean; NaN as above."""
        mean, sd = self.usual()
        return mean + sigmas * sd


@dataclass
class Documents:
    """The documents of a batch, or the pieces of them that it holds, in its order (P,), and what they cost; and what
    those of each group (G,) cost until then."""

    targets_P: npt.NDArray[np.int64]
    loss_P: Floats
    """Nats per target; of one without targets 0."""
    group_P: npt.NDArray[np.int64]
    outliers_P: npt.NDArray[np.bool_]
    """Which stand out."""
    mean_G: Floats
    """Not finite where too few are known; so is its standard deviation."""
    sd_G: Floats


@dataclass
class Guard:
    """The guard of a run. Its state is part of a checkpoint."""

    settings: GuardConfig
    groups: int
    """Of the mixture, whose documents are compared with each other."""
    trouble: Trouble | None = None
    """Of the last step; None where it was fine."""
    documents: Documents | None = None
    """Those of the last step that this process reads."""
    bad: int = 0
    """Bad steps since the last good one."""
    first_bad: int = 0
    """The first of them."""

    def __post_init__(self) -> None:
        self._windows: dict[Why, Window] = {
            "loss": Window(self.settings.window, relative=True),
            "gradient_norm": Window(self.settings.window, relative=False),
            "update_norm": Window(self.settings.window, relative=False),
        }
        # (3 G + 1,): of the documents so far, as `of_documents` has them, in sums that fade
        self._known = np.zeros(3 * self.groups + 1)
        self._usual = np.empty(self.groups), np.empty(self.groups)  # mean and deviation, of the last step
        self._data = ""
        self._rollbacks: list[int] = []  # data steps

    def of_documents(self, batch: Batch, sums_P: Floats) -> Floats:
        """(3 G + 1,): what this process adds to the documents' figures: count, sum and sum of squares by group, and the
        outliers, which are in none of them."""
        rule = self.settings.documents or OutliersConfig()
        targets_P, group_P = batch.by_document
        assert len(sums_P) == len(targets_P)  # the kernel does not look
        loss_P, outliers_P = np.empty(len(targets_P)), np.empty(len(targets_P), np.bool_)
        (mean_G, sd_G), added = self._usual, np.zeros(3 * self.groups + 1)
        judge(
            sums_P, targets_P, group_P, self._known, LEAST_DOCUMENTS, FLAT,
            rule.least_targets, rule.sigmas, rule.most, loss_P, outliers_P, mean_G, sd_G, added,
        )  # fmt: skip
        self.documents = Documents(targets_P, loss_P, group_P, outliers_P, mean_G, sd_G)
        return added

    def passes(self, step: int, loss: float, norm: float, update: float | None, summed: Floats) -> bool:
        """Whether the weights may move by what a step found.

        loss: nats per target; norm: of the gradient; update: of the move of the step before, the root of its mean
        square over its learning rate, None where it is not known; summed: the sum over all processes of
        `of_documents`, or empty.
        """
        judged, windows = step > self.settings.after, self._windows
        values: dict[Why, float] = {"loss": loss, "gradient_norm": _log(norm)}
        if update is not None:
            values["update_norm"] = _log(update)
        why: list[Why] = [] if math.isfinite(loss) and math.isfinite(norm) else ["not_finite"]
        if not why and judged:
            why = [name for name, value in values.items() if value > windows[name].limit(self.settings.sigmas)]
        outliers = int(summed[-1]) if len(summed) else 0
        if self.settings.documents is not None and judged and outliers and not why:
            why.append("documents")
        if why:
            known = summed[: self.groups].sum() + outliers if len(summed) else 0.0
            figures = {name: Figure(value, *windows[name].usual()) for name, value in values.items()}
            self.trouble = Trouble(tuple(why), figures, outliers, bool(outliers > known / 2))
            self.first_bad = self.first_bad if self.bad else step
            self.bad += 1
            return False
        self.trouble, self.bad = None, 0
        for name, value in values.items():
            if math.isfinite(value):
                windows[name].add(value)
        if len(summed):
            fade(self._known, summed, self.groups, KNOWN)
        return True

    def remedy(self, data_step: int, can_name: bool) -> Action:
        """What is to be done about the trouble at a data step; `can_name`: whether documents can be told apart."""
        assert self.trouble is not None
        named = self.settings.leave_out == "documents" and can_name and self.trouble.outliers > 0
        if self.trouble.harmed or (self.bad > self.settings.patience and self.trouble.why != ("documents",)):
            horizon = data_step - 10 * self.settings.window
            self._rollbacks = [one for one in self._rollbacks if one > horizon]
            if len(self._rollbacks) >= self.settings.rollbacks:
                return "end"
            self._rollbacks.append(data_step)
            return "rollback"
        if not named or self.trouble.most or self.bad > self.settings.patience:
            return "step"
        self._known[-1] += self.trouble.outliers  # they are not there where the step is made again
        return "documents"

    def is_of(self, data: str) -> None:
        """Begins to learn anew what is usual where the data are others than before: weights of the mixture, lengths."""
        if self._data not in ("", data):
            for window in self._windows.values():
                window.set([])
            self._known = np.zeros(3 * self.groups + 1)
        self._data = data

    def is_divided_anew(self) -> None:
        """Begins to learn anew how large moves are: other processes sample other numbers of the weights."""
        self._windows["update_norm"].set([])

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        for window in self._windows.values():
            window.settle()  # else it would go on with other roundings than a run that takes this up
        return {
            "windows": {name: list(window.values) for name, window in self._windows.items()},
            "known": self._known.tolist(),
            "bad": [self.bad, self.first_bad],
            "rollbacks": self._rollbacks,
            "data": self._data,
            "sample": SAMPLE,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that up again; settings stay the configuration's."""
        for name, window in self._windows.items():
            window.set(state["windows"][name])
        if state.get("sample") != SAMPLE:
            self.is_divided_anew()
        known = state.get("known", [])  # of another mixture, it says nothing of this one
        if len(known) == len(self._known):
            self._known = np.array(known)
        self.bad, self.first_bad = state["bad"]
        self._rollbacks, self._data = list(state["rollbacks"]), state["data"]


def _log(value: float) -> float:
    return math.log(value) if value > 0 and math.isfinite(value) else (-math.inf if value == 0 else math.inf)
