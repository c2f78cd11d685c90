"""Which documents are duplicates, and of which: the total order, exact groups, and what becomes of them all.

The order of work: `total_order` ranks all documents; `exact_losers` takes out equal records, then equal URLs, then
equal texts; `pipeline.lsh` finds edges among what is left, and `pipeline.components` joins them into clusters;
`outcome` names for every loser the document that it lost to. A loser of one step takes no part in the next, so each
loser has one reason, and the survivor that is named is always kept.

Nothing here depends on the order of the rows: ranks come from contents, and every choice is the least rank. Older
generations come first: a document never loses to a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RecipeError, nearest
from pipeline.ids import AnyIds, halves, matrix, starts
from pipeline.signed import Rows

POLICY = ("source", "quality", "length", "date", "id")
"""What decides, in this order, which of several duplicates survives: the source that the recipe names
first, the higher quality, the longer text, the earlier date, the lesser id."""

REASONS = ("same_record", "same_url", "same_text", "near_duplicate")
"""Why a document lost, in the order in which they are tried."""


@dataclass(frozen=True)
class OrderColumns:
    """What `total_order` looks at, one entry a document."""

    generation: npt.NDArray[np.integer]
    """Older ones are less, and always better."""
    source: npt.NDArray[np.integer]
    """Priority of its source: its place in the recipe's inputs; less is better."""
    quality: npt.NDArray[np.float64]
    """More is better; NaN comes last."""
    length: npt.NDArray[np.integer]
    """Characters or bytes of text; more is better."""
    date: npt.NDArray[Any]
    """Earlier is better; what sorts last (NaT, infinity) where there is none."""
    id: AnyIds
    """Lesser is better."""
    tie: npt.NDArray[np.integer]
    """What orders records of equal id: see `ties`."""


def total_order(columns: OrderColumns, policy: Sequence[str] = POLICY) -> Rows:
    """(documents,) the place of each document in the total order, 0 for the one that wins over all.

    Compared by generation, by the names in `policy`, then by id, then by `tie`.
    Raises RecipeError for a name that is not in POLICY.
    """
    for name in policy:
        if name not in POLICY:
            raise RecipeError(f"'{name}' does not decide between duplicates.{nearest(name, POLICY)}")
    high, low = halves(matrix(columns.id))
    values: dict[str, list[npt.NDArray[Any]]] = {
        "source": [np.asarray(columns.source)],
        "quality": [-np.asarray(columns.quality, np.float64)],  # sorting puts NaN last
        "length": [-np.asarray(columns.length, np.int64)],
        "date": [np.asarray(columns.date)],
        "id": [high, low],
    }
    keys = [np.asarray(columns.generation), *(key for name in (*policy, "id") for key in values[name]), columns.tie]
    order = np.lexsort(keys[::-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def ties(content: AnyIds, file: pa.Array | pa.ChunkedArray, offset: Rows, inner_offset: Rows) -> Rows:
    """(records,) a place for each record of one id (or of several): by the digest of what its table says beside the
    record, then by file, offset and inner offset in its origin. Only records that differ in nothing else have the
    last word by where they lie."""
    order = np.lexsort((inner_offset, offset, places(file, None), *halves(matrix(content))[::-1]))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def places(column: pa.Array | pa.ChunkedArray, order: Sequence[str] | None) -> Rows:
    """(rows,) the place of each value of a string column in `order`, or among its values, sorted."""
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([column])
    if not len(column):
        return np.zeros(0, np.int64)
    coded = column.dictionary_encode().unify_dictionaries().chunks
    names = coded[-1].dictionary.to_pylist()
    place = {name: number for number, name in enumerate(sorted(names) if order is None else order)}
    of_name = np.array([place[name] for name in names], np.int64)
    return np.concatenate([of_name[chunk.indices.to_numpy(zero_copy_only=False)] for chunk in coded])


def exact_groups(digests: AnyIds, valid: npt.NDArray[np.bool_] | None, rank: Rows) -> tuple[Rows, Rows]:
    """Edges (leader, member) from the document of least rank of each group of equal digests to the others.

    `digests` holds 16 bytes a document; rows where `valid` is false (no URL, no text) are in no group.
    Edges are ordered by the rank of the member.
    """
    rows = np.arange(len(digests)) if valid is None else np.flatnonzero(valid)
    high, low = halves(matrix(digests)[rows])
    order = np.lexsort((rank[rows], low, high))
    rows, high, low = rows[order], high[order], low[order]
    first = starts(high, low)
    leader = rows[first][np.cumsum(first) - 1]
    edges = np.flatnonzero(~first)
    edges = edges[np.argsort(rank[rows[edges]])]
    return leader[edges], rows[edges]


def exact_losers(
    rank: Rows,
    kinds: Sequence[tuple[str, AnyIds, npt.NDArray[np.bool_] | None]],
    known: tuple[Rows, npt.NDArray[np.int8]] | None = None,
) -> tuple[Rows, npt.NDArray[np.int8]]:
    """The survivor of each document by equal digests, and the reason of each loser.

    `kinds` are (reason of REASONS, digests, valid) in the order in which they are tried; a loser of one
    kind takes no part in the next. So a text is never lost with a document that lost by its URL. `known` is what
    became of the first documents, those of earlier runs: survivor and reason, which stand, whatever the keys say.
    Returns (documents,) the row that each document lost to (itself where it is kept), always one that
    no kind drops, and (documents,) the place of the reason in REASONS, -1 where kept.
    """
    survivor = np.arange(len(rank))
    reason = np.full(len(rank), -1, np.int8)
    old = 0 if known is None else len(known[0])
    if known is not None:
        survivor[:old], reason[:old] = known
    for name, digests, valid in kinds:
        place = REASONS.index(name)
        alive = reason < 0
        alive[:old] |= reason[:old] >= place  # what lost by this kind or a later one was there to lose to
        leader, member = exact_groups(digests, alive if valid is None else alive & valid, rank)
        fresh = member >= old
        survivor[member[fresh]] = leader[fresh]
        reason[member[fresh]] = place
    return _final(survivor), reason


@dataclass(frozen=True)
class Outcome:
    """What became of each document."""

    survivor: Rows
    """(documents,) the document that it lost to, which is kept; itself where it is kept."""
    reason: npt.NDArray[np.int8]
    """(documents,) place in REASONS, -1 where kept."""
    cluster: Rows
    """(documents,) size of the cluster that the document is in, its survivor included; 1 where alone."""


def outcome(exact: tuple[Rows, npt.NDArray[np.int8]], near: Rows) -> Outcome:
    """Exact and near duplicates together.

    `exact` is what `exact_losers` returned; `near` (documents,) the document of least rank in each one's cluster.
    Clusters join only documents that `exact` keeps (ValueError otherwise). A loser by exact equality whose survivor
    then loses as a near duplicate keeps its reason and names the final survivor.
    """
    lost = near != np.arange(len(near))
    reason = exact[1].copy()
    if (reason[lost] >= 0).any() or (reason[near[lost]] >= 0).any():
        raise ValueError("a cluster holds a document that an exact duplicate has already replaced")
    reason[lost] = REASONS.index("near_duplicate")
    survivor = near[exact[0]]
    return Outcome(survivor, reason, np.bincount(survivor, minlength=len(near))[survivor])


def _final(survivor: Rows) -> Rows:
    """Each chain of survivors followed to its end: log2 of the longest chain steps."""
    while True:
        further = survivor[survivor]
        if np.array_equal(further, survivor):
            return survivor
        survivor = further
