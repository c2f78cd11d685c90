"""Signed parts of given signatures, and what joins them, without a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import components, dedup, matching
from pipeline.lsh import MAX_COMPARISONS, Order, Rule, join, write_band_table
from pipeline.signed import SignedPart


def signed_parts(folder: Path, pieces: list[np.ndarray], rule: Rule, known: int = 0) -> list[SignedPart]:
    """A part for each of these matrices; the first `known` ones are of earlier runs."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, values in enumerate(pieces):
        stem = folder / f"{number:03d}"
        stem.with_name(stem.name + ".bin").write_bytes(values.astype("<u4").tobytes())
        bands = stem.with_name(stem.name + ".bands")
        write_band_table(values.astype(np.uint32), rule.bands, rule.rows, bands)
        found.append(SignedPart(stem, bands, len(values), number, number < known))
    return found


def near_of(
    parts: list[SignedPart], rule: Rule, rank: np.ndarray, folder: Path, *, alone: np.ndarray | None = None,
    bounds: list[int] | None = None, known: np.ndarray | None = None, pieces: int = 1, most: int = MAX_COMPARISONS,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(documents,) the least document of each one's cluster, and the figures of the search.

    `known` (documents of earlier runs,): the rank of the survivor of each one's cluster.
    """
    known = np.zeros(0, np.int64) if known is None else known
    alone = np.zeros(len(rank), bool) if alone is None else alone
    bounds = [0, len(rank)] if bounds is None else bounds
    order = Order(rank.astype(np.uint32), alone, known.astype(np.uint32), np.array(bounds))
    joined = [
        join(parts, order, rule, band, (piece, pieces), folder, most)
        for band in range(rule.bands)
        for piece in range(pieces)
    ]
    document = np.empty(len(rank), np.int64)
    document[rank] = np.arange(len(rank))
    start = np.arange(len(rank), dtype=np.uint32)
    start[rank[: len(known)]] = known
    leader, _ = components.leaders([(one.left, one.right) for one in joined], bounds, start, known=len(known))
    near = np.empty(len(rank), np.int64)
    near[document] = document[leader]
    figures = np.sum([one.figures for one in joined], axis=0)
    figures[matching.LARGEST] = max(one.figures[matching.LARGEST] for one in joined)
    return near, figures


def plain_clusters(
    pairs: np.ndarray, rank: np.ndarray, bounds: list[int], known: dict[int, int] | None = None
) -> list[int]:
    """What `near_of` must find: from a matrix (documents, documents) of pairs that count, in plain Python."""
    label = dict(known or {})
    age = np.searchsorted(bounds, rank, "right")
    by_rank = sorted(range(len(rank)), key=lambda row: rank[row])
    for generation in sorted(set(age.tolist())):
        fresh = [row for row in by_rank if age[row] == generation and row not in label]
        left = set(fresh)
        for row in fresh:
            if row not in left:
                continue
            members, todo = [], [row]
            left.discard(row)
            while todo:
                one = todo.pop()
                members.append(one)
                found = [other for other in left if pairs[one, other]]
                left.difference_update(found)
                todo += found
            older = [label[o] for o in label if age[o] < generation and any(pairs[o, m] for m in members)]
            best = min(older, key=lambda survivor: rank[survivor], default=row)
            label |= dict.fromkeys(members, best)
    return [label[row] for row in range(len(rank))]


__all__ = ["dedup", "near_of", "plain_clusters", "signed_parts"]
