"""How the values of each rule spread about its limit, and the documents that come nearest to it on either side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline import ids
from pipeline.look.histogram import Histogram, histogram
from pipeline.look.rules import Rules, limit_of
from stages.base import BROKEN

CANDIDATES = 6
"""For each document that is shown, so many are looked up: later stages drop some, whose texts are gone."""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Near:
    """A document near a limit."""

    id: bytes
    value: float


@dataclass
class RuleFacts:
    """One limit of one stage."""

    stage: str
    setting: str
    limit: float | None
    reached: int
    """Documents that reached the stage."""
    applied: int
    """Those of them that the rule applies to."""
    broken: int
    alone: int
    """Documents that break this rule and no other of the stage."""
    spread: Histogram | None
    kept: list[Near]
    """Documents that break no rule of the stage, the nearest to the limit first."""
    lost: list[Near]
    """Documents that break this rule, the nearest to the limit first."""


def rules(found: Rules, most: int) -> list[RuleFacts]:
    """All limits of a run. At most `most` documents are meant to be shown on either side."""
    facts = []
    for label, settings in found.settings().items():
        names = [f"{label}.{one}" for one in (*settings, BROKEN)]
        table = pq.read_table(found.paths, columns=["id", *names])
        table = table.filter(table.column(names[-1]).is_valid())
        high, low = ids.halves(ids.matrix(table.column("id")))
        bits = table.column(names[-1]).to_numpy()
        for place, setting in enumerate(settings):
            values = table.column(names[place]).to_numpy().astype(np.float64)
            mine = bits & np.uint32(1 << place) != 0
            applied = np.isfinite(values)
            limit = limit_of(found.stages[label], setting)
            rows = (applied & (bits == 0), applied & mine)
            nearest = [
                _nearest(
                    values, high, low, side, setting.startswith("min_") != lost, most * (1 if lost else CANDIDATES)
                )
                for lost, side in enumerate(rows)
            ]
            facts.append(
                RuleFacts(
                    label, setting, limit, len(values), int(applied.sum()), int(mine.sum()),
                    int((bits == np.uint32(1 << place)).sum()), histogram(values, mine, limit),
                    *([Near(table.column("id")[row].as_py(), float(values[row])) for row in side] for side in nearest),
                )
            )  # fmt: skip
    return facts


def _nearest(
    values: Values,
    high: npt.NDArray[np.uint64],
    low: npt.NDArray[np.uint64],
    side: npt.NDArray[np.bool_],
    upwards: bool,
    most: int,
) -> list[int]:
    """The rows of a side in the order of their distance from the limit, which they all lie above (or all below)."""
    rows = np.flatnonzero(side)
    if not len(rows):
        return []
    order = values[rows] if upwards else -values[rows]
    if len(rows) > most:
        near = order <= np.partition(order, most - 1)[most - 1]
        rows, order = rows[near], order[near]
    found: list[int] = rows[np.lexsort((low[rows], high[rows], order))][:most].tolist()
    return found
