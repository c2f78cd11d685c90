"""How figures spread: histograms of a bounded number of bars, for charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Where tables cut sorted values."""
BARS = 48
_WHOLE = 60
"""Whole numbers get a bar each where they span no more than this."""
_SKEWED = 20
"""A high quantile above the median by this factor, or above a limit by twice of it, asks for a logarithmic axis."""
TAIL = 0.004
"""Of the values on either side, which go into the outermost bars so that the rest can be seen."""
Array = npt.NDArray[Any]


@dataclass
class Histogram:
    """Bars of a histogram: `edges` has one more value than there are bars. The outermost bars hold all beyond them."""

    edges: list[float]
    passing: list[int]
    breaking: list[int]
    """Of those the values that break a rule; all 0 where there is none."""
    log: bool
    below: bool
    above: bool
    """Whether there are values below the first edge, or above the last one."""


def histogram(values: Array, broken: Array | None = None, limit: float | None = None) -> Histogram | None:
    """Bars of about equal width, on a logarithmic axis where the values ask for it; None of no values.

    A limit that lies near the values lies on an edge.
    """
    finite = np.isfinite(values)
    wrong = np.zeros(len(values), np.bool_) if broken is None else broken
    values, wrong = values[finite].astype(np.float64), wrong[finite]
    if not len(values):
        return None
    low, middle, high = np.quantile(values, (TAIL, 0.5, 1 - TAIL), method="nearest").tolist()
    least, most = float(values.min()), float(values.max())
    if (
        limit is not None
        and math.isfinite(limit)
        and least <= limit <= most * 1.5
        and (limit <= 4 * high or wrong.any())
    ):
        room = 0.04 * (max(high, limit) - min(low, limit))
        low, high = (limit - room if limit < low and least < limit else min(low, limit)), max(high, limit)
        high = limit + room if limit >= high and most > limit else high
    whole = bool((values == np.floor(values)).all()) and max(abs(low), abs(high)) < 1 << 31
    high = max(high, low + 1e-6 * max(abs(low), abs(high), 1e-3))
    log = (
        low >= 0
        and middle > 0
        and (high > _SKEWED * middle or (limit and 0 < limit < high / _SKEWED / 2))
        and not (whole and high - low <= _WHOLE)
    )
    if whole and high - low <= _WHOLE:
        edges = np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    elif log:
        positive = values[values > 0]
        start = max(low, float(np.quantile(positive, TAIL)), high / 1e6)
        start = min(start, limit / 1.3) if limit and limit > 0 else start
        edges = np.geomspace(start, max(high, start * 2), BARS + 1)
    else:
        edges = np.linspace(low, high, BARS + 1)
    if limit is not None and edges[0] < limit < edges[-1] and not (whole and high - low <= _WHOLE):
        edges[1:-1][np.argmin(np.abs(edges[1:-1] - limit))] = limit
    inside = np.clip(values, edges[0], np.nextafter(edges[-1], -np.inf))
    passing = np.histogram(inside[~wrong], edges)[0].tolist()
    breaking = np.histogram(inside[wrong], edges)[0].tolist()
    ends = _ends(edges)
    return Histogram(ends, passing, breaking, bool(log), least < ends[0], most > ends[-1])


def powers(values: Array) -> Histogram | None:
    """Whole numbers by half powers of two, as lengths are looked at."""
    values = values[values > 0]
    if not len(values):
        return None
    low, high = math.floor(2 * math.log2(values.min())), math.floor(2 * math.log2(values.max())) + 1
    edges = 2.0 ** (np.arange(low, high + 1) / 2)
    counts = np.histogram(values, edges)[0].tolist()
    return Histogram(_ends(edges), counts, [0] * len(counts), True, False, False)


def _ends(edges: Array) -> list[float]:
    return [float(f"{edge:.9g}") for edge in edges]
