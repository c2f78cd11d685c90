"""Matrices of MinHash signatures made to measure, seeded: planted clusters of all sizes, and the three hard buckets.

A value is a hash of its cluster and column; a document of a cluster keeps each with the probability that is its
similarity to the others' common origin. So a row is a function of the seed and its number, and files of any length are
written block by block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit

Matrix = npt.NDArray[np.uint32]

DUPLICATES = 0.3
"""Share of the documents that are in planted clusters, which have 3 on average."""
MILLION = 1_000_000
"""Among so many documents the largest cluster has about 6,500, and the sizes fall off from there, as a power does."""
LEAST = 0.6
"""Documents of a cluster keep an even share from here to 1 of its values."""
BLOCK = 1 << 18


@inline
def _mix(value: np.uint64) -> np.uint64:
    """Splitmix64 (Steele et al. 2014)."""
    value = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit
def fill(out: Matrix, first: int, seed: int, clusters: npt.NDArray[np.int64], keep: npt.NDArray[np.float64]) -> None:
    """Rows of the documents `first` and up, which keep such a share of the values of these clusters."""
    for row in range(out.shape[0]):
        mine = _mix(np.uint64(first + row) ^ _mix(np.uint64(seed)))
        common = _mix(np.uint64(clusters[row]) ^ _mix(np.uint64(seed + 1)))
        limit = np.uint64(keep[row] * 4294967295.0)
        for column in range(out.shape[1]):
            own = _mix(mine + np.uint64(column))
            kept = (own >> np.uint64(32)) <= limit
            out[row, column] = _mix(common + np.uint64(column)) if kept else own & np.uint64(0xFFFFFFFF)


def planted(documents: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(documents,) the cluster of each document, and the share of its values that each keeps."""
    draw = np.random.Generator(np.random.Philox(seed))
    clusters = np.arange(documents, 2 * documents)
    joined = draw.random(documents) < DUPLICATES
    count = int(joined.sum())
    millions = max(1, documents // MILLION)
    each = int(DUPLICATES / 3 * documents / millions)
    clusters[joined] = draw.integers(0, millions, count) * each + (each * draw.random(count) ** 3).astype(np.int64)
    return clusters, LEAST + (1 - LEAST) * draw.random(documents)


def write(path: Path, documents: int, permutations: int, seed: int) -> None:
    """The raw file of a matrix (documents, permutations) with planted clusters."""
    clusters, keep = planted(documents, seed)
    with path.open("wb") as file:
        for start in range(0, documents, BLOCK):
            block = np.empty((min(BLOCK, documents - start), permutations), np.uint32)
            end = start + len(block)
            fill(block, start, seed, clusters[start:end], keep[start:end])
            block.astype("<u4", copy=False).tofile(file)


def of_clusters(clusters: npt.NDArray[np.int64], keep: float, permutations: int, seed: int = 1) -> Matrix:
    """The matrix of documents that each keep such a share of the values of their cluster."""
    out = np.empty((len(clusters), permutations), np.uint32)
    fill(out, 0, seed, np.asarray(clusters, np.int64), np.full(len(clusters), keep))
    return out


def equal(documents: int, permutations: int) -> Matrix:
    """Documents with one signature: one bucket in every band."""
    return of_clusters(np.zeros(documents, np.int64), 1.0, permutations)


def nearly_equal(documents: int, permutations: int) -> Matrix:
    """Documents that each keep 98 % of one signature's values: no two rows are equal, buckets are large."""
    return of_clusters(np.zeros(documents, np.int64), 0.98, permutations)


def strangers(documents: int, permutations: int, rows: int) -> Matrix:
    """Pairs of documents with 95 % of their origin's values, strangers to all others, but for the first band, in which
    all fall into one bucket."""
    matrix = of_clusters(np.arange(documents) // 2, 0.95, permutations)
    matrix[:, :rows] = 7
    return matrix
