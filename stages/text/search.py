"""Search within kernels."""

from __future__ import annotations

from typing import Any

from stages.kernels import inline


@inline
def first_at_least(values: Any, wanted: Any, low: int, high: int) -> int:
    """The first place from `low` on whose value is `wanted` or more, `high` where there is none; values ascend."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
