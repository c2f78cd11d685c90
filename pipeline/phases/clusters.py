"""Phases clusters and losers: which documents hang together, and what becomes of each.

`clusters`, one unit, joins the edges and leaves an entry for each document: its survivor, why it lost, the size of its
cluster. `losers`, a unit for each clean part, writes that down: the duplicates with their survivors and
similarities, the dropped records, and the decision on each row of the part.

Memory: of `clusters` 40 bytes a document, of `losers` what its part needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import components, dedup, index, matching
from pipeline.ledger import Part, Row, Staged
from pipeline.lsh import Rule
from pipeline.mapping import mapped
from pipeline.parts import PartWriter
from pipeline.phases import bands, exact, signatures, stars
from pipeline.progress import Reporter
from pipeline.recipe import DEDUP_LABEL
from pipeline.signed import Rows, names, shingle_sets, starts_of
from pipeline.signed import signatures as gathered
from pipeline.work import Context, Task, once, unit_key
from stages.schema import DROPPED

PACKAGES = ("numba", "numpy")
FILES = {"final": "<u4", "why": "i1", "size": "<u4"}
CHUNK = 1 << 14

DUPLICATES = pa.schema(
    [
        pa.field("loser", pa.binary(16)),
        pa.field("survivor", pa.binary(16)),
        pa.field("reason", pa.string()),
        pa.field("similarity", pa.float64()),
        pa.field("cluster_size", pa.int64()),
        pa.field("loser_source", pa.string()),
        pa.field("survivor_source", pa.string()),
        pa.field("loser_url", pa.string()),
        pa.field("survivor_url", pa.string()),
    ]
)
"""One row a loser. `similarity` is to the survivor, and null where texts were not compared (an equal URL). The survivor
may be a document of an earlier run that the recipe's index remembers."""
DECISIONS = pa.schema([pa.field("cluster_size", pa.int32()), pa.field("duplicate_of", pa.binary(16))])
"""One row a document of the clean part. `cluster_size` is 0 where it is dropped; `duplicate_of` is null unless it is a
duplicate that stays (`mode: mark`)."""


@once
def tasks(context: Context) -> list[Task]:
    """One unit over the edges of all bands."""
    parts = bands.edges(context)
    near, rule = exact.settings_of(context).near, bands.rule_of(context)
    signed = [part for row, _ in signatures.committed(context) for part in row.parts if near]
    facts = {
        "exact": exact.digest(context),
        "edges": [part.digest for part in parts],
        "max_cluster": near.max_cluster if near else None,
        "rule": vars(rule) if rule else None,
        "parts": [part.digest for part in signed],
        "mode": exact.settings_of(context).mode,
    }
    leaders = stars.result(context)
    if leaders:
        facts["stars"] = [part.digest for part in leaders]
    spec = {
        "edges": [part.path for part in parts],
        "stars": [part.path for part in leaders],
        "exact": [part.path for part in exact.committed(context).parts],
    }
    return [Task("clusters", unit_key("clusters", PACKAGES, facts), sum(part.bytes for part in parts), spec)]


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The outcome of every document."""
    row = exact.committed(context)
    rank = exact.found(context, "rank")
    order = np.empty(len(rank), np.uint32)
    order[rank] = np.arange(len(rank), dtype=np.uint32)
    leader, apart = _leaders(task, context, row, order, folder)
    near = np.empty(len(rank), np.int64)
    near[order] = order[leader]
    found = dedup.outcome((exact.found(context, "survivor").astype(np.int64), exact.found(context, "reason")), near)
    values: dict[str, npt.NDArray[Any]] = {"final": found.survivor, "why": found.reason, "size": found.cluster}
    for name, kind in FILES.items():
        (folder / name).write_bytes(values[name].astype(kind).tobytes())
    reporter.add(size=task.size)
    known = row.body["known"]
    own = slice(known, None)
    counts = Counter(dedup.REASONS[code] for code in found.reason[own].tolist() if code >= 0)
    marked = Counter({name: count for name, count in counts.items() if _stays(context, name)})
    here = found.cluster[own][found.reason[own] < 0]
    sizes = np.unique(here, return_counts=True)
    body = {
        "entered": len(rank) - known,
        "dropped": {f"{DEDUP_LABEL}.{name}": count for name, count in sorted((counts - marked).items())},
        "marked": {f"{DEDUP_LABEL}.{name}": count for name, count in sorted(marked.items())},
        "clusters": {str(size): count for size, count in zip(*(s.tolist() for s in sizes), strict=True) if size > 1},
        "taken_apart": apart,
    }
    return [Staged(folder / name, f"dedup/{name}-{task.key[:20]}.bin") for name in FILES], body


def _leaders(
    task: Task, context: Context, row: Row, order: npt.NDArray[np.uint32], scratch: Path
) -> tuple[npt.NDArray[np.uint32], int]:
    """(documents,) for each rank, that of its cluster's survivor; and the number of clusters that were taken apart."""
    start = np.arange(len(order), dtype=np.uint32)
    known = exact.found(context, "known")
    joined = exact.found(context, "reason")[: len(known)] < 0  # losers by equality are in no cluster
    start[exact.found(context, "rank")[: len(known)][joined]] = known[joined]
    rule, near = bands.rule_of(context), exact.settings_of(context).near
    if rule is None or near is None:
        return start, 0
    tables = [pq.read_table(path) for path in context.files(task.spec["edges"])]
    edges = [(table.column("left").to_numpy(), table.column("right").to_numpy()) for table in tables if table.num_rows]
    parts = bands.signed(context)
    if task.spec["stars"]:
        leaders = np.concatenate([mapped(path, "<u4") for path in context.files(task.spec["stars"])])
        start[len(known) :] = leaders[len(known) :]

    def taken_apart(members: components.Nodes, neighbours: Rows, bounds: Rows) -> Rows:
        documents = order[members].astype(np.int64)
        values = gathered(parts, documents, rule.permutations, scratch)
        sets, ends = shingle_sets(parts, documents, scratch) if rule.exact else _NO_SETS
        found: Rows = matching.stars(neighbours, bounds, values, rule.need, sets, ends, rule.millionths)
        return found

    cap = components.Cap(near.max_cluster, taken_apart)
    return components.leaders(edges, row.body["bounds"], start, cap, known=len(known), joined=bool(task.spec["stars"]))


_NO_SETS = (np.zeros(0, np.uint64), np.zeros((0, 2), np.int64))


def _stays(context: Context, reason: str) -> bool:
    """Whether duplicates of this kind stay in the corpus. Equal records never do: they are one record."""
    return exact.settings_of(context).mode == "mark" and reason != "same_record"


@once
def committed(context: Context) -> Row:
    """The manifest row of the phase: its only one."""
    (row,) = context.ledger.rows("clusters")
    return row


def outcome_of(context: Context, name: str) -> npt.NDArray[Any]:
    """One of FILES, mapped: an entry for each document."""
    return exact.opened(context, committed(context), name, FILES[name])


@once
def loser_tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    near = exact.settings_of(context).near
    shared = {
        "outcome": [part.digest for part in committed(context).parts],
        "exact": exact.digest(context),
        "parts": [part.digest for row, _ in signatures.committed(context) for part in row.parts],
        "known": index.digest(context),  # survivors are named, wherever they are
        "threshold": near.threshold if near else None,
        "verify": near.verify if near else None,
        "mode": exact.settings_of(context).mode,
    }
    reads = tuple(part.path for part in (*committed(context).parts, *exact.committed(context).parts))
    reads += tuple(part.path for row, _ in signatures.committed(context) for part in row.parts)
    found = []
    number = sum(part.known for part in exact.signed(context))
    for place, (row, _) in enumerate(signatures.committed(context)):
        key = unit_key("losers", PACKAGES, shared | {"part": [part.digest for part in row.parts], "place": place})
        size = sum(part.bytes for part in row.parts)
        found.append(Task("losers", key, size, {"part": number + place}, reads))
    return found


def losers_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Duplicates, dropped records and decisions of a part."""
    parts = exact.signed(context)
    part, first = parts[task.spec["part"]], int(starts_of(parts)[task.spec["part"]])
    span = slice(first, first + part.rows)
    survivor = outcome_of(context, "final")[span].astype(np.int64)
    reason, size = (outcome_of(context, name)[span] for name in ("why", "size"))
    lost = np.flatnonzero(reason >= 0)
    dropped = np.array([not _stays(context, name) for name in dedup.REASONS])[reason[lost]]
    table = pq.read_table(part.file("parquet"), columns=["origin"])
    rule = bands.rule_of(context)
    winners = [names(parts, survivor[lost[:0]]).select(["id"])]
    with PartWriter(folder / "duplicates", DUPLICATES) as duplicates, PartWriter(folder / "lost", DROPPED) as records:
        for begin in range(0, len(lost), CHUNK):
            rows = lost[begin : begin + CHUNK]
            loser, winner = names(parts, first + rows), names(parts, survivor[rows])
            winners.append(winner.select(["id"]))
            similarity = _similarity(context, rule, first + rows, survivor[rows], reason[rows], folder)
            compared = pa.array(similarity, mask=np.isnan(similarity))
            words = pa.array([dedup.REASONS[code] for code in reason[rows].tolist()])
            duplicates.write(
                pa.RecordBatch.from_arrays(
                    [
                        *(_whole(one.column("id")) for one in (loser, winner)), words, compared,
                        pa.array(size[rows].astype(np.int64)),
                        *(_whole(one.column(name)) for name in ("source", "url") for one in (loser, winner)),
                    ],
                    schema=DUPLICATES,
                )
            )  # fmt: skip
            gone = pa.array(dropped[begin : begin + CHUNK])
            near = reason[rows] == dedup.REASONS.index("near_duplicate")
            limit = pa.array(np.full(len(rows), rule.threshold if rule else 0.0), mask=~near)
            columns = {name: _whole(loser.column(name)) for name in ("id", "source", "url")} | {
                "origin": _whole(table.column("origin").take(pa.array(rows))),
                "stage": pa.array([DEDUP_LABEL] * len(rows), pa.string()),
                "reason": pa.compute.binary_join_element_wise(pa.scalar(DEDUP_LABEL), words, "."),
                "value": compared,
                "limit": limit,
                "survivor": _whole(winner.column("id")),
            }
            arrays = [columns[name] for name in DROPPED.names]
            records.write(pa.RecordBatch.from_arrays(arrays, schema=DROPPED).filter(gone))
    stays = lost[~dropped]
    sizes = size.astype(np.int32)
    sizes[lost[dropped]] = 0
    of = np.full(part.rows, -1, np.int64)
    of[stays] = np.flatnonzero(~dropped)
    chosen = pa.array(of, mask=of < 0)
    column = _whole(pa.concat_tables(winners).column("id")).take(chosen)
    pq.write_table(pa.table([pa.array(sizes), column], schema=DECISIONS), folder / "decisions", compression="zstd")
    reporter.add(size=task.size)
    staged = [
        Staged(folder / "decisions", f"dedup/decision-{task.key[:20]}.parquet"),
        Staged(folder / "duplicates", f"duplicates/{task.key[:20]}.parquet"),
        Staged(folder / "lost", f"dropped/dedup-{task.key[:20]}.parquet"),
    ]
    return staged, {"documents": part.rows, "losers": len(lost), "dropped": int(dropped.sum())}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _similarity(
    context: Context, rule: Rule | None, losers: Rows, survivors: Rows, reason: npt.NDArray[np.int8], scratch: Path
) -> npt.NDArray[np.float64]:
    """(losers,) the similarity of each loser to its survivor: 1 for equal records and texts, NaN for an equal URL,
    whose texts were not compared; for near duplicates, and for losers whose first survivor was one, what signatures or
    shingle sets say; below the threshold where a chain of pairs led there."""
    same_url = reason == dedup.REASONS.index("same_url")
    similarity = np.where(same_url, np.nan, 1.0)
    first = exact.found(context, "survivor")[losers]
    near = reason == dedup.REASONS.index("near_duplicate")
    moved = np.flatnonzero(near | (~same_url & (first != survivors)))
    if rule is None or not len(moved):
        return similarity
    parts = exact.signed(context)
    pairs = losers[moved], survivors[moved]
    if rule.exact:
        sets = [shingle_sets(parts, documents, scratch) for documents in pairs]
        similarity[moved] = matching.jaccard(*sets[0], *sets[1])
    else:
        one, other = (gathered(parts, documents, rule.permutations, scratch) for documents in pairs)
        similarity[moved] = np.count_nonzero(one == other, axis=1) / rule.permutations
    return similarity


@once
def decisions(context: Context) -> dict[str, Part]:
    """For each clean part (path) the part with the decision on each of its rows."""
    rows = [context.ledger.read_row("losers", task.key) for task in loser_tasks(context)]
    clean = signatures.clean_parts(context)
    return {part.path: row.part("dedup") for part, row in zip(clean, rows, strict=True) if row is not None}
