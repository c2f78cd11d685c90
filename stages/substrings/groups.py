"""Which occurrences of a stretch are cut: all but the earliest, in the order of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.substrings.located import Hashes
from stages.text.column import Ints

NOTHING, CUT, OPEN = 0, 1, 2
"""What becomes of a record: nothing; all its stretches are cut; its stretches must be looked at one by one."""

Verdicts = npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What makes a stretch one that is cut."""

    tokens: int = 50
    """Words of a stretch; Lee et al. take 50 tokens."""
    least: int = 2
    """Fewest documents that hold it; with 1 also what one document says twice."""
    most: int | None = None
    """Most documents that hold it: what more share, as a licence, stays in all of them."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.least < 1 or (self.most is not None and self.most < self.least):
            raise ValueError("tokens and least are at least 1, most is at least least")


def decide(keys: Hashes, first: Hashes, second: Hashes, ranks: Ints, places: Ints, sharing: Sharing) -> Verdicts:
    """(records,) the verdict on each record of a group: equal `keys` form one.

    `first` and `second` are the digest of its stretches, `ranks` the place of its document in the order, `places` its
    word. An occurrence that overlaps the earliest in one document is no repetition, and stays. Records of one key
    whose digests differ may share some of their stretches: OPEN, unless an equal record settles it. For records of
    single stretches give `first` as the key: then none is left open.
    """
    verdicts = np.zeros(len(keys), np.int8)
    some = np.flatnonzero(recurring(keys))  # few: what occurs once is out of it
    some = some[np.lexsort((places[some], ranks[some], second[some], first[some], keys[some]))]
    found = np.zeros(len(some), np.int8)
    most = np.iinfo(np.int64).max if sharing.most is None else sharing.most
    _decide(
        keys[some], first[some], second[some], ranks[some], places[some], sharing.tokens, sharing.least, most, found
    )
    verdicts[some] = found
    return verdicts


def recurring(keys: Hashes) -> npt.NDArray[np.bool_]:
    """(records,) which keys are there more than once. The cheaper, the longer the keys stand in order already."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    found = np.zeros(len(keys), np.bool_)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


@njit
def _decide(
    keys: Any, first: Any, second: Any, ranks: Any, places: Any, tokens: int, least: int, most: int, found: Any
) -> None:
    bounded = most < 1 << 62
    start = 0
    while start < len(keys):
        end = start + 1
        one_document = True
        while end < len(keys) and keys[end] == keys[start]:
            one_document &= ranks[end] == ranks[start]
            end += 1
        last = end - 1
        alone = first[start] == first[last] and second[start] == second[last]
        at = start
        while at < end and not (one_document and least > 1):
            begin = at
            documents = 0
            while at < end and first[at] == first[begin] and second[at] == second[begin]:
                documents += at == begin or ranks[at] != ranks[at - 1]
                at += 1
            settled = alone or (documents >= least and not bounded)
            if alone and (documents < least or documents > most):
                break
            seen = 0
            for member in range(begin, at):
                new = member == begin or ranks[member] != ranks[member - 1]
                seen += new
                apart = ranks[member] != ranks[begin] or places[member] - places[begin] >= tokens
                if alone:
                    found[member] = CUT if apart and member > begin else NOTHING
                elif settled and apart and member > begin and not (new and seen <= least):
                    found[member] = CUT
                else:  # it, or an earlier one with some of its stretches, must say so; and so many prove `least`
                    found[member] = OPEN
        start = end
