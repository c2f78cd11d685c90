"""What is kept or left as a whole, whatever the model thinks of its parts: code, data tables, texts that stand twice.

Each of these leaves token F1 as it is and makes of half a table, or of an article without its listings, a whole one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.scan import TAG_NUMBER, Bytes
from stages.extract.tokens import DIGEST, TOKENS
from stages.kernels import inline, njit

_PRE, _XMP, _TABLE, _TR, _TD, _TH = (TAG_NUMBER[name] for name in "pre xmp table tr td th".split())
_COPY_TOKENS = 8  # shorter texts recur by right, in cells and lists
_CELL_TOKENS = 20  # cells of more hold a page's layout
_NEIGHBOURS = 6  # blocks on either side
_LIKELY = 6554  # a tenth, in 1/65,536


@njit
def whole(
    keep: npt.NDArray[np.bool_], probability: npt.NDArray[np.int32], counts: npt.NDArray[np.int32],
    element: npt.NDArray[np.int32], tag: Bytes, depth: npt.NDArray[np.int32], first: npt.NDArray[np.int32],
    last: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Changes `keep`, of each block, by the three rules; `probability` is the model's, in 1/65,536."""
    _drop_copies(keep, counts, element, tag)
    for b in range(len(keep)):
        if (tag[element[b]] == _PRE or tag[element[b]] == _XMP) and probability[b] > _LIKELY:
            keep[b] = True
    for e in range(len(tag)):
        if tag[e] == _TABLE and _is_wanted(e, keep, probability, counts, tag, depth, first[e], last[e]):
            keep[first[e] : last[e]] = True


@inline
def _drop_copies(
    keep: npt.NDArray[np.bool_], counts: npt.NDArray[np.int32], element: npt.NDArray[np.int32], tag: Bytes
) -> None:
    """Of equal texts the first stays: pages carry some twice, for wide and for narrow screens. Code may recur."""
    keys = np.empty(len(keep), np.int64)
    size = 0
    for b in range(len(keep)):
        if keep[b] and counts[b, TOKENS] >= _COPY_TOKENS and tag[element[b]] != _PRE:
            keys[size] = (np.int64(counts[b, DIGEST]) << 32) | b
            size += 1
    ordered = np.sort(keys[:size])
    for i in range(1, size):
        if ordered[i] >> 32 == ordered[i - 1] >> 32:
            keep[ordered[i] & 0xFFFFFFFF] = False


@inline
def _is_wanted(
    e: int, keep: npt.NDArray[np.bool_], probability: npt.NDArray[np.int32], counts: npt.NDArray[np.int32],
    tag: Bytes, depth: npt.NDArray[np.int32], first: int, last: int,
) -> bool:  # fmt: skip
    """Whether a table is to be kept with every cell.

    It must be a data table: two rows and four cells or more, short ones, and no table inside it. Then it is enough
    that half its tokens are kept, or that it is not unlikely and most of what stands around it is kept.
    """
    rows = cells = 0
    inner = e + 1
    while inner < len(tag) and depth[inner] > depth[e]:
        if tag[inner] == _TABLE:
            return False
        rows += tag[inner] == _TR
        cells += tag[inner] == _TD or tag[inner] == _TH
        inner += 1
    if rows < 2 or cells < 4:
        return False
    tokens = kept = likely = np.int64(0)
    for b in range(first, last):
        tokens += counts[b, TOKENS]
        kept += counts[b, TOKENS] if keep[b] else 0
        likely += np.int64(counts[b, TOKENS]) * probability[b]
    if not 0 < tokens <= _CELL_TOKENS * cells:
        return False
    if 2 * kept >= tokens:
        return True
    around = around_kept = 0
    for b in range(max(first - _NEIGHBOURS, 0), min(last + _NEIGHBOURS, len(keep))):
        if not first <= b < last:
            around += counts[b, TOKENS]
            around_kept += counts[b, TOKENS] if keep[b] else 0
    return likely > _LIKELY * tokens and 2 * around_kept > around
