"""Which stretches of a text raised its score."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.classifier import symbols
from stages.classifier.features import PER_CODE, features
from stages.classifier.model import Model
from stages.classifier.windows import ROOM
from stages.kernels import njit
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes

MOST = 3
"""Most stretches that are named for a window."""


def causes(model: Model, view: Texts, starts: Ints, ends: Ints, label: int = 0) -> Ints:
    """For each window `MOST` pairs of places in the column's buffer, ascending; -1 where there are fewer.

    Each feature's weight is shared out among the bytes that it was made from; a stretch is a run of bytes that have a
    third of the highest sum or more, and those with the most in all are named. Bounds lie between code points.
    """
    made = np.full((len(starts), MOST, 2), -1, np.int64)
    _causes(view.data, starts, ends, symbols.symbols(), model.weights[label], np.uint32(32 - model.bits), made)
    return made


@njit
def _causes(
    data: Bytes, starts: Ints, ends: Ints, table: npt.NDArray[np.uint32], weights: npt.NDArray[np.int8], shift: Any,
    out: Ints,
) -> None:  # fmt: skip
    codes = np.empty(ROOM + 3, np.uint32)
    places = np.empty(ROOM + 3, np.int64)
    hashes = np.empty((ROOM + 3) * PER_CODE, np.uint32)
    spans = np.empty(((ROOM + 3) * PER_CODE, 2), np.int64)
    for window in range(len(starts)):
        start = starts[window]
        shares = np.zeros(ends[window] - start, np.int64)
        count = features(data, start, ends[window], table, codes, places, hashes, spans)
        for f in range(count):
            first, last = spans[f, 0] - start, spans[f, 1] - start
            weight = np.int64(weights[hashes[f] >> shift])
            share = weight * abs(weight) * 5040 // max(last - first, 1)
            for place in range(first, last):
                shares[place] += share
        peak = np.int64(0)
        for share in shares:
            peak = max(peak, share)
        if not peak:
            continue
        best = np.zeros(MOST, np.int64)
        place = 0
        while place < len(shares):
            begin, total = place, np.int64(0)
            while place < len(shares) and shares[place] * 3 >= peak:
                total += shares[place]
                place += 1
            if total:  # in the place of the weakest, which goes; the others move up, so that the order stays
                weakest = MOST - 1
                for at in range(MOST - 1, -1, -1):
                    if best[at] < best[weakest]:
                        weakest = at
                if total > best[weakest]:
                    for at in range(weakest, MOST - 1):
                        best[at] = best[at + 1]
                        out[window, at, 0], out[window, at, 1] = out[window, at + 1, 0], out[window, at + 1, 1]
                    best[MOST - 1] = total
                    out[window, MOST - 1, 0], out[window, MOST - 1, 1] = start + begin, start + place
            else:
                place += 1
