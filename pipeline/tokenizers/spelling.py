"""Whether rows of tokens spell given texts: one compiled pass over both (see `pieces`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.text.eight import eight_at, leading


@njit
def spell(
    flat: npt.NDArray[Any],
    ends: npt.NDArray[np.int32],
    pieces: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    letters: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    found: npt.NDArray[np.bool_],
) -> None:
    for row in range(len(found)):
        place, stop = places[row], places[row + 1]
        equal = True
        for index in range(ends[row], ends[row + 1]):
            start = starts[flat[index]]
            size = starts[flat[index] + 1] - start
            if place + size > stop:
                equal = False
                break
            if size < 8 and place + 8 <= len(letters):  # nearly always, in a third of the time
                equal = leading(eight_at(pieces, start) ^ eight_at(letters, place), size) == np.uint64(0)
            else:
                for offset in range(size):
                    equal &= pieces[start + offset] == letters[place + offset]
            if not equal:
                break
            place += size
        found[row] = equal and place == stop
