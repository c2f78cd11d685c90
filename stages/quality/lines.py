"""How many lines of a text are longer than some limit, which differs from recipe to recipe."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.quality.rules import Limit
from stages.text import characters
from stages.text.characters import BLANK
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, code_at, width


def lines_longer_than(view: Texts, limit: Limit) -> Ints:
    """How many lines of each text have more characters than the limit, blanks around them apart."""
    found = np.zeros(len(view.valid), np.int64)
    limits = np.broadcast_to(np.asarray(limit, np.float64), len(found))
    _longer(view.data, view.offsets, characters.classes(), limits, found)
    return found


@njit
def _longer(
    data: Bytes, offsets: Ints, classes: npt.NDArray[np.uint32], limits: npt.NDArray[np.float64], found: Ints
) -> None:
    for row in range(len(found)):
        at, end = offsets[row], offsets[row + 1]
        length = kept = 0  # up to here; up to the last character that is no blank
        while at < end:
            byte = data[at]
            if byte == 10:
                found[row] += kept > limits[row]
                length = kept = 0
                at += 1
                continue
            if not classes[code_at(data, at)] & BLANK:
                length += 1
                kept = length
            elif length:
                length += 1
            at += width(byte)
        found[row] += kept > limits[row]
