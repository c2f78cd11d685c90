"""What is kept or left as a whole, whatever the model thinks of its parts: data tables, and texts that stand twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.blocks import DIGEST, TOKENS
from stages.extract.scan import TAG_NUMBER, Bytes
from stages.kernels import njit

_TABLE, _TR, _TD, _TH = (TAG_NUMBER[name] for name in "table tr td th".split())
_COPY_TOKENS = 8  # shorter texts recur by right, in cells and lists
_CELL_TOKENS = 20  # cells of more hold a page's layout


@njit
def drop_copies(keep: npt.NDArray[np.bool_], counts: npt.NDArray[np.int32]) -> None:
    """Of equal texts the first stays: pages carry some twice, for wide and for narrow screens. Changes `keep`."""
    keys = np.empty(len(keep), np.int64)
    size = 0
    for b in range(len(keep)):
        if keep[b] and counts[b, TOKENS] >= _COPY_TOKENS:
            keys[size] = (np.int64(counts[b, DIGEST]) << 32) | b
            size += 1
    ordered = np.sort(keys[:size])
    for i in range(1, size):
        if ordered[i] >> 32 == ordered[i - 1] >> 32:
            keep[ordered[i] & 0xFFFFFFFF] = False


@njit
def whole_tables(
    keep: npt.NDArray[np.bool_], counts: npt.NDArray[np.int32], tag: Bytes, depth: npt.NDArray[np.int32],
    first: npt.NDArray[np.int32], last: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """A data table of which half the tokens are kept is kept with every cell. Changes `keep`.

    A data table has two rows and four cells or more, short ones, and no table inside it.
    """
    for e in range(len(tag)):
        if tag[e] != _TABLE:
            continue
        rows = cells = nested = 0
        inner = e + 1
        while inner < len(tag) and depth[inner] > depth[e]:
            rows += tag[inner] == _TR
            cells += tag[inner] == _TD or tag[inner] == _TH
            nested += tag[inner] == _TABLE
            inner += 1
        if nested or rows < 2 or cells < 4:
            continue
        tokens = kept = 0
        for b in range(first[e], last[e]):
            tokens += counts[b, TOKENS]
            kept += counts[b, TOKENS] if keep[b] else 0
        if tokens <= _CELL_TOKENS * cells and 0 < tokens <= 2 * kept:
            keep[first[e] : last[e]] = True
