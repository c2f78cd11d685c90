"""Unicode's forms: whether text is in one already, mark by mark, inside of kernels (UAX #15, section 9)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.normalize.kinds import DECOMPOSES, MEETS, NEVER
from stages.text.search import first_at_least

Form = Literal["NFC", "NFKC"]


@inline
def disturbs(
    code: int, bit: int, order: int, starter: int, above: int, last: int, pairs: npt.NDArray[np.int64]
) -> bool:
    """Whether a code point makes it uncertain that the text is in its form.

    `bit` and `order` are its bits and its combining class, `starter` is the last code point of class 0 before it
    with the bits `above`, and `last` is the class of what stands just before it. True for all text that is not in
    the form; seldom true for text that is.
    """
    if bit & NEVER or (order and last > order):
        return True
    if not bit & MEETS or starter == 0:
        return False
    if above & DECOMPOSES or (0x1100 <= starter <= 0x1112 and 0x1161 <= code <= 0x1175):
        return True
    pair = starter << 21 | code
    place = first_at_least(pairs, pair, 0, len(pairs))
    return bool(place < len(pairs) and pairs[place] == pair)
