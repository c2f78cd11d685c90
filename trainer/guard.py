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
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainer.batch import Batch
from trainer.guard_settings import GuardConfig, OutliersConfig

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

    def figure(self, value: float) -> Figure:
        """A value against them."""
        count = len(self.values)
        if count < LEAST:
            return Figure(value, math.nan, math.nan)
        mean = self._sum / count
        sd = math.sqrt(max(0.0, self._squares / count - mean**2))
        return Figure(value, mean, max(sd, FLAT * abs(mean) if self._relative else FLAT))


@dataclass
class Spread:
    """Running mean and standard deviation of the documents' mean losses, by group (G,): sums that fade."""

    count_G: Floats
    sum_G: Floats
    square_G: Floats
    outliers: float = 0.0

    @classmethod
    def of(cls, groups: int) -> Spread:
        """Of nothing yet."""
        return cls(np.zeros(groups), np.zeros(groups), np.zeros(groups))

    def add(self, added: Floats) -> None:
        """Fades what there is and adds a step's documents, as `Guard.of_documents` has them (3 G + 1,)."""
        count_G, sum_G, square_G = np.split(added[:-1], 3)
        keep = 1 - min(0.25, float(count_G.sum()) / KNOWN)
        self.count_G = keep * self.count_G + count_G
        self.sum_G = keep * self.sum_G + sum_G
        self.square_G = keep * self.square_G + square_G
        self.outliers = keep * self.outliers + float(added[-1])

    def mean_sd(self) -> tuple[Floats, Floats]:
        """(G,) each; not finite where too few documents are known."""
        known = self.count_G >= LEAST_DOCUMENTS
        count_G = np.where(known, self.count_G, np.nan)
        mean_G = self.sum_G / count_G
        variance_G = np.maximum(self.square_G / count_G - mean_G**2, 0.0)
        return mean_G, np.maximum(np.sqrt(variance_G), FLAT * np.abs(mean_G))

    @property
    def share(self) -> float:
        """Of the documents of late, that are outliers."""
        return float(self.outliers / max(1.0, self.outliers + self.count_G.sum()))


@dataclass(frozen=True)
class Documents:
    """The documents of a batch, or the pieces of them that it holds, in its order (P,), and what they cost."""

    targets_P: npt.NDArray[np.int64]
    loss_P: Floats
    """Nats per target; of one without targets 0."""
    group_P: npt.NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch, sums_P: Floats) -> Documents:
        """From the cross entropy of each, summed over its targets."""
        targets_P, group_P = batch.by_document
        return cls(targets_P, sums_P / np.maximum(targets_P, 1), group_P)


@dataclass
class Guard:
    """The guard of a run. Its state is part of a checkpoint."""

    settings: GuardConfig
    groups: int
    """Of the mixture, whose documents are compared with each other."""
    trouble: Trouble | None = None
    """Of the last step; None where it was fine."""
    outliers_P: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """Which documents that this process reads of the last step stand out."""
    documents: Documents | None = None
    """Those of the last step."""
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
        self._spread = Spread.of(self.groups)
        self.spread_then = self._spread.mean_sd()
        self._data = ""
        self._rollbacks: list[int] = []  # data steps

    def of_documents(self, batch: Batch, sums_P: Floats) -> Floats:
        """(3 G + 1,): what this process adds to the documents' figures: count, sum and sum of squares by group, and the
        outliers, which are in none of them."""
        rule = self.settings.documents or OutliersConfig()
        self.documents = found = Documents.of(batch, sums_P)
        mean_G, sd_G = self.spread_then = self._spread.mean_sd()
        counts_P = found.targets_P >= rule.least_targets
        with np.errstate(invalid="ignore"):
            far_P = found.loss_P > mean_G[found.group_P] + rule.sigmas * sd_G[found.group_P]
        if self._spread.share > rule.most:  # a kind of text: it is part of what is usual
            far_P = np.zeros(len(far_P), bool)
        finite_P = np.isfinite(found.loss_P)
        self.outliers_P = (counts_P & far_P) | ~finite_P
        good_P = counts_P & ~self.outliers_P
        loss_P, group_P = found.loss_P[good_P], found.group_P[good_P]
        sums = [np.bincount(group_P, weights, self.groups) for weights in (None, loss_P, loss_P**2)]
        return np.concatenate([*sums, [self.outliers_P.sum()]]).astype(np.float64)

    def passes(self, step: int, loss: float, norm: float, update: float | None, summed: Floats) -> bool:
        """Whether the weights may move by what a step found.

        loss: nats per target; norm: of the gradient; update: of the move of the step before, over its learning rate,
        None where it is not known; summed: the sum over all processes of `of_documents`, or empty.
        """
        judged = step > self.settings.after
        figures: dict[Why, Figure] = {
            "loss": self._windows["loss"].figure(loss),
            "gradient_norm": self._windows["gradient_norm"].figure(_log(norm)),
        }
        if update is not None:
            figures["update_norm"] = self._windows["update_norm"].figure(_log(update))
        why: list[Why] = [] if math.isfinite(loss) and math.isfinite(norm) else ["not_finite"]
        if not why and judged:
            why = [name for name, one in figures.items() if one.sigmas > self.settings.sigmas]
        outliers = int(summed[-1]) if len(summed) else 0
        if self.settings.documents is not None and judged and outliers and not why:
            why.append("documents")
        if why:
            known = summed[: self.groups].sum() + outliers if len(summed) else 0.0
            self.trouble = Trouble(tuple(why), figures, outliers, bool(outliers > known / 2))
            self.first_bad = self.first_bad if self.bad else step
            self.bad += 1
            return False
        self.trouble, self.bad = None, 0
        for name, figure in figures.items():
            if math.isfinite(figure.value):
                self._windows[name].add(figure.value)
        if len(summed):
            self._spread.add(summed)
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
        self._spread.outliers += self.trouble.outliers  # they are not there where the step is made again
        return "documents"

    def is_of(self, data: str) -> None:
        """Begins to learn anew what is usual where the data are others than before: weights of the mixture, lengths."""
        if self._data not in ("", data):
            for window in self._windows.values():
                window.set([])
            self._spread = Spread.of(self.groups)
        self._data = data

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        spread = self._spread
        for window in self._windows.values():
            window.settle()  # else it would go on with other roundings than a run that takes this up
        sums = {"count": spread.count_G, "sum": spread.sum_G, "square": spread.square_G}
        return {
            "windows": {name: list(window.values) for name, window in self._windows.items()},
            "documents": {name: values.tolist() for name, values in sums.items()} | {"outliers": spread.outliers},
            "bad": [self.bad, self.first_bad],
            "rollbacks": self._rollbacks,
            "data": self._data,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that up again; settings stay the configuration's."""
        for name, window in self._windows.items():
            window.set(state["windows"][name])
        held = state["documents"]
        if len(held["count"]) == self.groups:
            count_G, sum_G, square_G = (np.array(held[name]) for name in ("count", "sum", "square"))
            self._spread = Spread(count_G, sum_G, square_G, held["outliers"])
        self.bad, self.first_bad = state["bad"]
        self._rollbacks, self._data = list(state["rollbacks"]), state["data"]


def _log(value: float) -> float:
    return math.log(value) if value > 0 and math.isfinite(value) else (-math.inf if value == 0 else math.inf)
