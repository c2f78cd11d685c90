"""Near duplicates from MinHash signatures: band tables, and the join of one stretch of one of them.

A band is a few columns of the signatures; documents that agree in them share a bucket. A part's band table holds, band
by band, the keys of its documents in ascending order, and the rows that they belong to; so the documents of one
range of keys are a slice of each part's table, whatever the number of ranges. The join of a range sorts its slices into
buckets and has `pipeline.matching` compare the signatures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import matching
from pipeline.ids import starts
from pipeline.mapping import mapped
from pipeline.signed import Rows, SignedPart, shingle_sets, signatures, starts_of

MAX_COMPARISONS = 1 << 26
"""Comparisons that one bucket may cost before the search in it is narrowed; see `pipeline.matching`."""
FREE = 128
"""Comparisons a member that a bucket may cost before it is refined."""
RANGE_ROWS = 1 << 20
"""Rows of a band table that one range has at most, where keys are spread evenly."""
MARGIN = 3.0
"""Standard errors below the threshold from which on a pair's estimate has its shingle sets compared."""


@functools.cache
def bands_and_rows(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows a band that find pairs of Jaccard similarity `threshold` with the least error.

    The least sum of the areas of false positives and false negatives (Leskovec et al., Mining of Massive
    Datasets, section 3.4), as `datasketch.MinHashLSH(threshold, num_perm)` picks them; the first of equals.
    bands × rows <= permutations.
    """
    if not 0 < threshold <= 1 or permutations < 2:
        raise ValueError(f"threshold lies above 0 and up to 1, permutations from 2: got {threshold}, {permutations}")
    # A pair of similarity s meets in a bucket with probability 1 - (1 - s^rows)^bands: a polynomial of a degree up to
    # `permutations`, which Gauss and Legendre's rule integrates exactly with half as many nodes.
    nodes, weights = np.polynomial.legendre.leggauss(permutations // 2 + 1)
    nodes, weights = (nodes + 1) / 2, weights / 2
    best = (math.inf, 0, 0)
    for bands in range(1, permutations + 1):
        rows = np.arange(1, permutations // bands + 1)[:, None]
        below = threshold * (weights * (1 - (1 - (threshold * nodes) ** rows) ** bands)).sum(1)
        above = (1 - threshold) * (weights * (1 - (threshold + (1 - threshold) * nodes) ** rows) ** bands).sum(1)
        least = int((below + above).argmin())
        best = min(best, (float((below + above)[least]), bands, least + 1))
    return best[1:]


@dataclass(frozen=True)
class Rule:
    """When two documents count as near duplicates, and by which bands they are found."""

    threshold: float
    permutations: int
    bands: int
    rows: int
    exact: bool
    """Whether the Jaccard similarity of the shingle sets decides, and not its estimate."""

    @property
    def need(self) -> int:
        """The least number of equal values in two signatures: that of the threshold or, where the shingle sets
        decide, of what lies `MARGIN` standard errors below it."""
        if not self.exact:
            return min_equal(self.threshold, self.permutations)
        error = math.sqrt(self.threshold * (1 - self.threshold) / self.permutations)
        return min_equal(max(self.threshold - MARGIN * error, 0.0), self.permutations)

    @property
    def millionths(self) -> int:
        """The threshold for the shingle sets; 0 where the estimate decides."""
        return round(self.threshold * 1e6) if self.exact else 0


def min_equal(threshold: float, permutations: int) -> int:
    """The least number of equal values with which a pair's estimate, equal / permutations, meets the threshold.

    The ceiling of threshold × permutations, less a millionth so that the product's rounding error
    cannot ask for one value more (0.7 × 110 is 77.00000000000001 in floating point).
    """
    return max(1, math.ceil(threshold * permutations - 1e-6))


def band_table(values: npt.NDArray[np.uint32], bands: int, rows: int) -> tuple[npt.NDArray[np.uint64], Rows]:
    """(bands, documents) the keys of each band in ascending order, and the row of each.

    A key is a 64-bit hash of the band's values: equal values give equal keys; unequal ones may with probability
    2^-64, which costs a comparison and no error.
    """
    keys = np.empty((bands, len(values)), np.uint64)
    matching.band_keys(values, rows, keys)
    order = np.argsort(keys, axis=1, kind="stable")
    return np.take_along_axis(keys, order, 1), order


def write_band_table(values: npt.NDArray[np.uint32], bands: int, rows: int, path: Path) -> None:
    """A part's band table as a file: all keys (uint64), then all rows (uint32)."""
    keys, order = band_table(values, bands, rows)
    with path.open("wb") as file:
        file.write(keys.astype("<u8").tobytes())
        file.write(order.astype("<u4").tobytes())


def ranges_of(documents: int) -> int:
    """How many ranges of keys a band table of so many documents is cut into: a power of two."""
    return 1 << max(0, math.ceil(math.log2(max(1, documents) / RANGE_ROWS)))


@dataclass(frozen=True)
class Order:
    """What the join must know of each document, by its number."""

    rank: npt.NDArray[np.uint32]
    """(documents,) its place in the total order, older generations first."""
    alone: npt.NDArray[np.bool_]
    """(documents,) whether it takes no part, as a loser by exact equality."""
    known: npt.NDArray[np.uint32]
    """(documents of earlier runs,) the rank of the survivor of each one's cluster; they come first."""
    bounds: Rows
    """(generations + 1,) the rank at which each generation begins, and the number of documents."""


@dataclass(frozen=True)
class Buckets:
    """The documents of a range of a band that share their key with another one."""

    documents: Rows
    """(members,) their numbers: bucket by bucket, in each in the total order."""
    rank: npt.NDArray[np.uint32]
    """(members,)"""
    bounds: npt.NDArray[np.int64]
    """(buckets + 1,) where each bucket begins, and the number of members."""


@dataclass(frozen=True)
class Joined:
    """The edges of one range of one band."""

    left: npt.NDArray[np.uint32]
    """(edges,) ranks; the lesser one of the pair."""
    right: npt.NDArray[np.uint32]
    buckets: int
    """Buckets of two documents or more."""
    figures: npt.NDArray[np.int64]
    """See `pipeline.matching`."""


def join(
    parts: Sequence[SignedPart], order: Order, rule: Rule, band: int, piece: tuple[int, int], scratch: Path,
    most: int = MAX_COMPARISONS,
) -> Joined:  # fmt: skip
    """The edges among the documents of range `piece[0]` of `piece[1]` of a band.

    Memory: about 60 bytes a document of the range, and a signature for each one that shares its bucket.
    """
    found = buckets(parts, order, rule.bands, band, piece)
    documents, rank, bounds = found.documents, found.rank, found.bounds
    values = signatures(parts, documents, rule.permutations, scratch)
    sets, ends = (
        shingle_sets(parts, documents, scratch) if rule.exact else (np.zeros(0, np.uint64), np.zeros((0, 2), np.int64))
    )
    known = np.full(len(documents), -1, np.int64)
    old = documents < len(order.known)
    known[old] = order.known[documents[old]]
    generation = np.searchsorted(order.bounds, rank, "right")
    figures = np.zeros(matching.FIGURES, np.int64)
    edges = matching.match(
        bounds, generation, known, values, rule.need, sets, ends, rule.millionths, most, figures, band, rule.rows,
        FREE,
    )  # fmt: skip
    one, other = rank[edges[:, 0]], rank[edges[:, 1]]
    return Joined(np.minimum(one, other), np.maximum(one, other), len(bounds) - 1, figures)


def buckets(parts: Sequence[SignedPart], order: Order, bands: int, band: int, piece: tuple[int, int]) -> Buckets:
    """The candidates of range `piece[0]` of `piece[1]` of a band; needs no signatures."""
    keys, documents = _slices(parts, bands, band, piece)
    stays = ~order.alone[documents]
    keys, documents = keys[stays], documents[stays]
    keys, documents = _in_buckets(keys, documents)
    if len(order.known):  # buckets without a new document are left alone
        begins = starts(keys)
        fresh = np.add.reduceat(documents >= len(order.known), np.flatnonzero(begins)) if len(keys) else keys[:0]
        stays = (fresh > 0)[np.cumsum(begins) - 1] if len(keys) else begins
        keys, documents = keys[stays], documents[stays]
    rank = order.rank[documents]
    place = np.lexsort((rank, keys))
    begins = starts(keys)  # the same in either order
    documents, rank = documents[place], rank[place]
    bounds = np.append(np.flatnonzero(begins), len(keys)).astype(np.int64)
    return Buckets(documents, rank, bounds)


def _slices(
    parts: Sequence[SignedPart], bands: int, band: int, piece: tuple[int, int]
) -> tuple[npt.NDArray[np.uint64], Rows]:
    """The keys of a range of a band, and the documents that have them."""
    number, count = piece
    width = (1 << 64) // count
    keys, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part, first in zip(parts, starts_of(parts)[:-1], strict=True):
        if not part.rows:
            continue
        entries = bands * part.rows
        table = mapped(part.table, "<u4")
        values = table[: 2 * entries].view("<u8").reshape(bands, -1)[band]
        low = int(np.searchsorted(values, np.uint64(number * width)))
        high = len(values) if number + 1 == count else int(np.searchsorted(values, np.uint64((number + 1) * width)))
        rows = table[2 * entries :].reshape(bands, -1)[band]
        keys.append(np.array(values[low:high]))  # a part of the map would hold all of it
        documents.append(rows[low:high].astype(np.int64) + first)
    return np.concatenate(keys), np.concatenate(documents)


def _in_buckets(keys: npt.NDArray[np.uint64], documents: Rows) -> tuple[npt.NDArray[np.uint64], Rows]:
    """Those whose key another one has too, by key."""
    order = np.argsort(keys, kind="stable")
    keys, documents = keys[order], documents[order]
    begins = starts(keys)
    alone = begins & np.append(begins[1:], True)[: len(begins)]
    return keys[~alone], documents[~alone]
