"""Scores of texts: log odds of windows, and what documents and paragraphs get of their windows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.classifier import symbols
from stages.classifier.features import PER_CODE, features
from stages.classifier.model import Model, scores
from stages.classifier.windows import ROOM, Windows, windows
from stages.kernels import njit
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes

Scores = npt.NDArray[np.int32]
PARTS = 1_000_000
_ROOTS = np.concatenate(([0], np.round(65536 / np.sqrt(np.arange(1, (ROOM + 3) * PER_CODE + 1))))).astype(np.int64)


class Judged(NamedTuple):
    """The windows of a column with their log odds."""

    windows: Windows
    """Those with a feature at least: windows of nothing but blanks say nothing."""
    log_odds: Ints
    """A row for each of them, a column for each class; in 1/LEAF."""


def judge(model: Model, view: Texts) -> Judged:
    """The log odds of all windows of a column."""
    found = windows(view.data, view.offsets)
    odds = np.empty((len(found.rows), len(model.labels)), np.int64)
    shift = np.uint32(32 - model.bits)
    counts = _log_odds(
        view.data, found.starts, found.ends, symbols.symbols(), model.weights, shift, model.scales, model.biases,
        _ROOTS, odds,
    )  # fmt: skip
    if counts.all():
        return Judged(found, odds)
    kept = counts > 0
    return Judged(Windows(*(column[kept] for column in found)), odds[kept])


def mean(judged: Judged, rows: int) -> tuple[Scores, npt.NDArray[np.bool_]]:
    """Of each of the texts and classes the score of the mean log odds, windows weighed by size; and which texts have
    any. A text twice as long with more of the same has the same score."""
    sizes = np.bincount(judged.windows.rows, judged.windows.sizes, rows).astype(np.int64)
    sums = np.zeros((rows, judged.log_odds.shape[1]), np.int64)
    np.add.at(sums, judged.windows.rows, judged.log_odds * judged.windows.sizes[:, None])
    made = scores(sums // np.maximum(sizes, 1)[:, None])
    made[sizes == 0] = 0
    return made, sizes > 0


def top(groups: Ints, number: int, sizes: Ints, values: Scores, share: int) -> Scores:
    """Of each of `number` groups of windows, the highest score that windows with `share` of its text reach.

    `share` is in 1/PARTS; `groups` ascends. A group of one window has that window's score, and a group is the same
    when it is there twice: long texts are neither spared nor condemned for their length. 0 for a group without windows.
    """
    made = np.zeros(number, np.int32)
    _top(
        groups, np.ascontiguousarray(sizes), values, np.argsort(groups * (1 << 32) - values, kind="stable"), share, made
    )
    return made


@njit
def _top(groups: Ints, sizes: Ints, values: Scores, order: Ints, share: int, out: Scores) -> None:
    first = 0
    while first < len(order):
        group = groups[order[first]]
        last, total = first, 0
        while last < len(order) and groups[order[last]] == group:
            total += sizes[order[last]]
            last += 1
        held = 0
        for place in range(first, last):
            held += sizes[order[place]]
            if held * PARTS >= share * total:
                out[group] = values[order[place]]
                break
        first = last


@njit
def _log_odds(
    data: Bytes, starts: Ints, ends: Ints, table: npt.NDArray[np.uint32], weights: npt.NDArray[np.int8],
    shift: Any, scales: Ints, biases: Ints, roots: Ints, out: Ints,
) -> Any:  # fmt: skip
    """Writes log odds to `out`; gives each window's number of features."""
    codes = np.empty(ROOM + 3, np.uint32)
    places = np.empty(ROOM + 3, np.int64)
    hashes = np.empty((ROOM + 3) * PER_CODE, np.uint32)
    spans = np.empty((0, 2), np.int64)
    counts = np.empty(len(starts), np.int32)
    for window in range(len(starts)):
        count = features(data, starts[window], ends[window], table, codes, places, hashes, spans)
        counts[window] = count
        for k in range(len(weights)):
            total = np.int64(0)
            for f in range(count):
                weight = np.int64(weights[k, hashes[f] >> shift])
                total += weight * abs(weight)
            out[window, k] = (total * roots[count] * scales[k] >> 32) + biases[k]
    return counts
