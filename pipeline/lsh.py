"""Near duplicates from MinHash signatures: one band of LSH at a time, every pair verified.

A band sorts the documents by their values in a few rows of the signature; documents with equal values
fall into one bucket. Buckets propose, the whole signatures decide: a pair becomes an edge where at least
`min_equal` of its values agree. A bucket is not joined with itself. Its identical signatures are
collapsed first, then a document is compared only with those that no edge has reached yet; so a bucket
of k documents that are copies of one another costs k comparisons, and its edges connect exactly what
all k² pairs would connect.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.ids import starts

Rows = npt.NDArray[np.int64]

MAX_COMPARISONS = 1 << 26
"""Comparisons that one bucket may cost before the search in it is narrowed; see `edges_of_band`."""

_CHUNK = 1 << 14  # signatures compared at once: 16 MB of values at 128 permutations


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


def min_equal(threshold: float, permutations: int) -> int:
    """The least number of equal values with which a pair's estimate, equal / permutations, meets the threshold.

    The ceiling of threshold × permutations, less a millionth so that the product's rounding error
    cannot ask for one value more (0.7 × 110 is 77.00000000000001 in floating point).
    """
    return max(1, math.ceil(threshold * permutations - 1e-6))


@dataclass(frozen=True)
class BandEdges:
    """The verified edges of one band, and how hard they were to find."""

    left: Rows
    """(edges,) document that stood as the leader; `right` is the one that it was compared with."""
    right: Rows
    equal: npt.NDArray[np.int32]
    """(edges,) values that the two signatures share, at least `min_equal`."""
    buckets: int
    """Buckets of two documents or more."""
    largest: int
    """Documents in the largest bucket."""
    rounds: int
    comparisons: int
    narrowed: int
    """Buckets that went over `max_comparisons`."""
    unresolved: int
    """Documents left behind uncompared with a part of their bucket, because it went over twice that."""


def band_keys(signatures: npt.NDArray[np.integer], band: int, rows: int, members: Rows) -> npt.NDArray[np.uint64]:
    """One 64-bit key for each member over its values in a band. Equal values give equal keys; unequal ones
    may with probability 2^-64, which costs a comparison and no error."""
    keys = np.empty(len(members), np.uint64)
    for start in range(0, len(members), 1 << 16):  # whole rows of a memory-mapped file at a time
        part = np.asarray(signatures[members[start : start + (1 << 16)], band * rows : (band + 1) * rows])
        keys[start : start + len(part)] = _mixed(part)
    return keys


def edges_of_band(
    signatures: npt.NDArray[np.integer],
    band: int,
    rows: int,
    min_equal: int,
    rank: Rows,
    members: Rows | None = None,
    max_comparisons: int = MAX_COMPARISONS,
) -> BandEdges:
    """The verified edges of one band: columns band × rows up to (band + 1) × rows.

    `signatures` is (documents, permutations), an array or a memory map; `rank` (documents,) the place of
    each document in the total order; `members` the rows that take part (None: all). Edges are row numbers
    of `signatures`. Together they connect, within each bucket, exactly the documents that the verified
    pairs of that bucket connect, whatever the order of the rows.

    Memory: about 40 bytes a member, beside two chunks of signatures.

    The one costly case is a large bucket of documents that agree in the band and are dissimilar as a
    whole: each leader is compared with all others. A bucket that has cost `max_comparisons` goes on with
    leaders alone (a document that was already reached is not compared any more, so a chain of pairs may
    stay apart), and at twice that it is left: its pairs then rest on the other bands. Both are counted,
    and both fall alike for every order of the rows, since leaders are taken by `rank`.
    """
    if members is None:
        members = np.arange(len(signatures), dtype=np.int64)
    keys = band_keys(signatures, band, rows, members)
    return band_candidates(keys, signatures, min_equal, rank, members, max_comparisons)


def band_candidates(
    keys: npt.NDArray[np.uint64],
    signatures: npt.NDArray[np.integer],
    min_equal: int,
    rank: Rows,
    members: Rows,
    max_comparisons: int = MAX_COMPARISONS,
) -> BandEdges:
    """`edges_of_band` for given bucket keys (members,): equal keys are one bucket."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    sizes = np.diff(np.r_[np.flatnonzero(starts(keys)), len(keys)])
    shared = np.repeat(sizes > 1, sizes)
    documents = members[order[shared]]
    bucket = np.repeat(np.arange(int((sizes > 1).sum())), sizes[sizes > 1])
    search = _Search(signatures, min_equal, max_comparisons)
    documents, bucket = search.collapse(documents, bucket, rank)
    search.resolve(documents, bucket)
    empty = np.zeros(0, np.int64)
    return BandEdges(
        left=np.concatenate([empty, *search.left]),
        right=np.concatenate([empty, *search.right]),
        equal=np.concatenate([np.zeros(0, np.int32), *search.equal]),
        buckets=int((sizes > 1).sum()),
        largest=int(sizes.max(initial=0)),
        rounds=search.rounds,
        comparisons=search.comparisons,
        narrowed=search.narrowed,
        unresolved=search.unresolved,
    )


def equal_values(signatures: npt.NDArray[np.integer], left: Rows, right: Rows) -> npt.NDArray[np.int32]:
    """(pairs,) number of equal values in the signatures of each pair; over permutations: its estimate."""
    equal = np.empty(len(left), np.int32)
    for start in range(0, len(left), _CHUNK):
        span = slice(start, start + _CHUNK)
        equal[span] = np.count_nonzero(signatures[left[span]] == signatures[right[span]], axis=1)
    return equal


class _Search:
    """The edges found so far, and the search within buckets."""

    def __init__(self, signatures: npt.NDArray[np.integer], min_equal: int, max_comparisons: int) -> None:
        self.signatures, self.min_equal, self.max_comparisons = signatures, min_equal, max_comparisons
        self.left: list[Rows] = []
        self.right: list[Rows] = []
        self.equal: list[npt.NDArray[np.int32]] = []
        self.rounds = self.comparisons = self.narrowed = self.unresolved = 0

    def keep(self, left: Rows, right: Rows, equal: npt.NDArray[np.int32]) -> None:
        self.left.append(left)
        self.right.append(right)
        self.equal.append(equal)

    def collapse(self, documents: Rows, bucket: Rows, rank: Rows) -> tuple[Rows, Rows]:
        """Joins identical signatures of a bucket to the one of least rank, and returns the ones that stay,
        ordered by bucket and rank. A document in a bucket of 100,000 copies thus costs one comparison."""
        digest = band_keys(self.signatures, 0, self.signatures.shape[1], documents)
        order = np.lexsort((rank[documents], digest, bucket))
        documents, bucket, digest = documents[order], bucket[order], digest[order]
        first = starts(bucket, digest)
        leader = documents[first][np.cumsum(first) - 1]
        copies = np.flatnonzero(~first)
        equal = equal_values(self.signatures, leader[copies], documents[copies])
        same = equal == self.signatures.shape[1]  # false only where two digests collide
        self.comparisons += len(copies)
        self.keep(leader[copies][same], documents[copies][same], equal[same])
        stays = first
        stays[copies[~same]] = True
        documents, bucket = documents[stays], bucket[stays]
        order = np.lexsort((rank[documents], bucket))
        return documents[order], bucket[order]

    def resolve(self, documents: Rows, bucket: Rows) -> None:
        """Breadth-first search in all buckets at once; documents come ordered by bucket and rank.

        A round compares in each bucket one leader with the documents that no edge has reached. Those that
        are verified wait in the bucket's queue to lead in their turn; where the queue is empty, the least
        of the rest leads.
        """
        if not len(documents):
            return
        count = int(bucket[-1]) + 1
        head = np.searchsorted(bucket, np.arange(count))
        tail = head.copy()  # the queue of a bucket is queue[head:tail], in the bucket's own stretch
        queue = np.empty_like(documents)
        cost = np.zeros(count, np.int64)
        rest = np.arange(len(documents))  # positions of those that no edge has reached
        while True:
            least = starts(bucket[rest])
            least &= head[bucket[rest]] == tail[bucket[rest]]
            roots = rest[least]
            queue[tail[bucket[roots]]] = documents[roots]
            tail[bucket[roots]] += 1
            rest = rest[~least]
            if not len(rest):
                return
            home = bucket[rest]
            leader = queue[head[home]]
            equal = equal_values(self.signatures, leader, documents[rest])
            hit = equal >= self.min_equal
            self.keep(leader[hit], documents[rest[hit]], equal[hit])
            self.rounds += 1
            self.comparisons += len(rest)
            active, tried = np.unique(home, return_counts=True)
            head[active] += 1
            cost[active] += tried
            reached = home[hit]
            place = np.arange(len(reached)) - np.searchsorted(reached, reached)
            queue[tail[reached] + place] = documents[rest[hit]]
            np.add.at(tail, reached, 1)
            rest = rest[~hit]
            rest = self._bounded(rest, bucket, active, cost, head, tail)

    def _bounded(self, rest: Rows, bucket: Rows, active: Rows, cost: Rows, head: Rows, tail: Rows) -> Rows:
        """Narrows the buckets that have cost too much; returns what is still to be compared."""
        costly = active[cost[active] >= self.max_comparisons]
        if not len(costly):
            return rest
        head[costly] = tail[costly]  # from here on, leaders alone
        self.narrowed = int((cost >= self.max_comparisons).sum())
        left = np.isin(bucket[rest], costly[cost[costly] >= 2 * self.max_comparisons])
        self.unresolved += int(left.sum())
        return rest[~left]


def _mixed(values: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """(n,) a 64-bit hash of each row: multiply-and-shift of splitmix64 (Steele et al. 2014), column by column."""
    key = np.full(len(values), 0x9E3779B97F4A7C15, np.uint64)
    for column in range(values.shape[1]):
        key ^= values[:, column].astype(np.uint64)
        key ^= key >> np.uint64(30)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(27)
        key *= np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key
