"""From the n-grams of a text to the sentences that are cut."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable

import numpy as np
import regex

from stages.text.characters import NOT_ALONE, folds
from stages.words import fold

_ENDS = regex.compile(r"\n+|(?<=[.!?…][\"'”’)\]]?)\s+|(?<=[。！？｡．؟۔।॥][」』”’）]?)\s*")


def sentences(text: str, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sentences (or lines) that touch the spans, with the blanks behind them: merged, in characters."""
    starts = sorted({0, len(text), *(match.end() for match in _ENDS.finditer(text))})
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        left = starts[bisect.bisect_right(starts, start) - 1]
        right = starts[bisect.bisect_left(starts, end)]
        if merged and left <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(right, merged[-1][1]))
        else:
            merged.append((left, right))
    return merged


def characters(text: str, spans: Iterable[tuple[int, int]], refolded: bool) -> list[tuple[int, int]]:
    """Byte spans of a text, or of its folded form, as characters of the text."""
    if not refolded:
        data = text.encode()
        sizes = np.frombuffer(data, np.uint8) & 0xC0 != 0x80
        before = np.concatenate([[0], np.cumsum(sizes)])
        return [(int(before[start]), int(before[end])) for start, end in spans]
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    # What is folded together: a character, and those behind it that do not fold alone.
    groups = np.flatnonzero(np.append(folds()[codes] != NOT_ALONE, True))
    groups = np.unique(np.concatenate([[0], groups, [len(text)]])).tolist()
    sizes = [len(fold(text[a:b]).encode()) for a, b in itertools.pairwise(groups)]
    ends = np.cumsum([0, *sizes]).tolist()
    return [
        (
            groups[max(bisect.bisect_right(ends, start) - 1, 0)],
            groups[min(bisect.bisect_left(ends, end), len(groups) - 1)],
        )
        for start, end in spans
    ]
