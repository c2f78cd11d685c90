"""Which documents are duplicates, and of which: exact groups, components of near duplicates, survivors.

The order of work: `total_order` ranks all documents; `exact_losers` takes out equal records, then equal
URLs, then equal texts; `pipeline.lsh.edges_of_band` runs over what is left, band by band; `components`
joins its edges; `duplicates` names for every loser the document that it lost to. A loser of one step
takes no part in the next, so each loser has one reason, and the survivor that is named is always kept.

Nothing here depends on the order of the rows: ranks come from contents, and every choice is the least rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RecipeError, nearest
from pipeline.ids import AnyIds, halves, matrix, starts
from pipeline.lsh import Rows, equal_values

POLICY = ("source", "length", "date", "id")
"""What decides, in this order, which of several duplicates survives: the source that the recipe names
first, the longer text, the earlier date, the lesser id."""

REASONS = ("same_record", "same_url", "same_text", "near_duplicate")
"""Why a document lost, in the order in which they are tried."""


@dataclass(frozen=True)
class OrderColumns:
    """What `total_order` looks at, one entry a document."""

    source: npt.NDArray[np.integer]
    """Priority of its source: its place in the recipe's inputs; less is better."""
    length: npt.NDArray[np.integer]
    """Characters or bytes of text; more is better."""
    date: npt.NDArray[np.datetime64]
    """Earlier is better; NaT comes last."""
    id: AnyIds
    """Lesser is better."""
    content: AnyIds
    """Digest of title, language and text, in which records of equal id may differ."""
    file: pa.Array | pa.ChunkedArray
    """The name in its origin. With `offset` it orders records that differ in nothing else."""
    offset: npt.NDArray[np.int64]
    inner_offset: npt.NDArray[np.int64]


def total_order(columns: OrderColumns, policy: Sequence[str] = POLICY) -> Rows:
    """(documents,) the place of each document in the total order, 0 for the one that wins over all.

    Compared by the names in `policy`, then by id, then by content, then by file, offset and inner offset.
    Raises RecipeError for a name that is not in POLICY.
    """
    for name in policy:
        if name not in POLICY:
            raise RecipeError(f"'{name}' does not decide between duplicates.{nearest(name, POLICY)}")
    high, low = halves(matrix(columns.id))
    file = places(columns.file, None)
    values: dict[str, list[npt.NDArray[np.generic]]] = {
        "source": [np.asarray(columns.source)],
        "length": [-np.asarray(columns.length, np.int64)],
        "date": [np.asarray(columns.date)],  # sorting puts NaT last
        "id": [high, low],
    }
    keys = [key for name in (*policy, "id") for key in values[name]]
    keys += [*halves(matrix(columns.content)), file, columns.offset, columns.inner_offset]
    order = np.lexsort(keys[::-1])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def places(column: pa.Array | pa.ChunkedArray, order: Sequence[str] | None) -> Rows:
    """(rows,) the place of each value of a string column in `order`, or among its values, sorted."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    coded = column.dictionary_encode()
    names = coded.dictionary.to_pylist()
    place = {name: number for number, name in enumerate(sorted(names) if order is None else order)}
    of_name = np.array([place[name] for name in names], np.int64)
    found: Rows = of_name[coded.indices.to_numpy(zero_copy_only=False)]
    return found


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
    rank: Rows, kinds: Sequence[tuple[str, AnyIds, npt.NDArray[np.bool_] | None]]
) -> tuple[Rows, npt.NDArray[np.int8]]:
    """The survivor of each document by equal digests, and the reason of each loser.

    `kinds` are (reason of REASONS, digests, valid) in the order in which they are tried; a loser of one
    kind takes no part in the next. So a text is never lost with a document that lost by its URL.
    Returns (documents,) the row that each document lost to (itself where it is kept), always one that
    no kind drops, and (documents,) the place of the reason in REASONS, -1 where kept.
    """
    survivor = np.arange(len(rank))
    reason = np.full(len(rank), -1, np.int8)
    for name, digests, valid in kinds:
        alive = reason < 0
        leader, member = exact_groups(digests, alive if valid is None else alive & valid, rank)
        survivor[member] = leader
        reason[member] = REASONS.index(name)
    return _final(survivor), reason


def components(documents: int, left: Rows, right: Rows) -> npt.NDArray[np.int32]:
    """(documents,) the label of each document's component, joined by the edges and by nothing else.

    Compiled breadth-first search of scipy: 4 bytes a document for the label and 8 while it works, and 24
    bytes an edge. Labels carry no meaning beyond being equal.
    """
    if documents >= 2**31:
        raise ValueError(f"{documents} documents are more than one run can join; fewer than 2^31 can")
    from scipy.sparse import coo_array  # type: ignore[import-untyped] # half a second: not where nothing is joined
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    ones = np.ones(len(left), np.int8)
    graph = coo_array((ones, (left.astype(np.int32), right.astype(np.int32))), shape=(documents, documents))
    labels: npt.NDArray[np.int32] = connected_components(graph.tocsr(), directed=False)[1]
    return labels


def survivors(rank: Rows, labels: npt.NDArray[np.integer]) -> Rows:
    """(documents,) the row of least rank in each document's component; itself where it survives."""
    order = np.argsort(rank)
    _, first = np.unique(labels[order], return_index=True)
    least = np.empty(int(labels.max(initial=-1)) + 1, np.int64)
    least[labels[order[first]]] = order[first]
    kept: Rows = least[labels]
    return kept


@dataclass(frozen=True)
class Duplicates:
    """Every loser, ordered by its rank, and the size of every cluster."""

    loser: Rows
    """(losers,) row of the document that is dropped."""
    survivor: Rows
    """(losers,) row of the document that it lost to, which is kept."""
    reason: npt.NDArray[np.int8]
    """(losers,) place in REASONS."""
    similarity: npt.NDArray[np.float64]
    """(losers,) to its survivor: the estimate from signatures where it lost as a near duplicate, or lost to
    one that did; below the threshold where a chain of pairs led there. 1 for equal records and texts, NaN
    for an equal URL, whose texts were not compared."""
    cluster: npt.NDArray[np.int64]
    """(documents,) size of the cluster that the document is in, its survivor included; 1 where alone."""

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(documents,) which documents are kept."""
        kept = np.ones(len(self.cluster), bool)
        kept[self.loser] = False
        return kept


def duplicates(
    rank: Rows,
    exact: tuple[Rows, npt.NDArray[np.int8]],
    near: tuple[Rows, Rows] | None = None,
    signatures: npt.NDArray[np.integer] | None = None,
) -> Duplicates:
    """The outcome of deduplication.

    `exact` is what `exact_losers` returned; `near` the verified edges of all bands, which join only
    documents that `exact` keeps (ValueError otherwise); `signatures` (documents, permutations), needed with
    `near`. A loser by exact equality whose survivor then loses as a near duplicate keeps its reason and
    names the final survivor.
    """
    survivor, reason = exact[0].copy(), exact[1].copy()
    similarity = np.where(reason == REASONS.index("same_url"), np.nan, 1.0)
    if near is not None:
        if signatures is None:
            raise ValueError("near duplicates need signatures for their similarity")
        left, right = near
        if (reason[left] >= 0).any() or (reason[right] >= 0).any():
            raise ValueError("an edge joins a document that an exact duplicate has already replaced")
        leader = survivors(rank, components(len(rank), left, right))
        lost = leader != np.arange(len(rank))
        survivor = leader[survivor]
        reason[lost] = REASONS.index("near_duplicate")
        through = lost | ((exact[0] != survivor) & ~np.isnan(similarity))
        moved = np.flatnonzero(through)
        similarity[moved] = equal_values(signatures, moved, survivor[moved]) / signatures.shape[1]
    losers = np.flatnonzero(reason >= 0)
    losers = losers[np.argsort(rank[losers])]
    return Duplicates(
        loser=losers,
        survivor=survivor[losers],
        reason=reason[losers],
        similarity=similarity[losers],
        cluster=np.bincount(survivor, minlength=len(rank))[survivor],
    )


def _final(survivor: Rows) -> Rows:
    """Each chain of survivors followed to its end: log2 of the longest chain steps."""
    while True:
        further = survivor[survivor]
        if np.array_equal(further, survivor):
            return survivor
        survivor = further
