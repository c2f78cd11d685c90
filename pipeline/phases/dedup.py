"""Phases exact, bands and clusters: which documents are the same, and which of them stays.

All three read signature parts, never texts. `exact` ranks all documents and takes out equal records, URLs
and texts; `bands` finds verified near duplicates, a unit for each LSH band; `clusters` joins them, names
every loser's survivor, and leaves for each clean part the decision on each of its rows.

Memory: a few hundred bytes a document, its URL included; signatures are memory-mapped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import dedup, ids, lsh
from pipeline.ledger import Part, Row, Staged
from pipeline.parts import PartWriter, read_batches
from pipeline.phases import signatures
from pipeline.progress import Reporter
from pipeline.recipe import DEDUP_LABEL, Dedup
from pipeline.work import Context, Task, once, unit_key
from stages.schema import DROPPED

PACKAGES = ("numpy", "scipy")

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
"""One row a loser. `similarity` is null where texts were not compared (an equal URL)."""


def settings_of(context: Context) -> Dedup:
    """The recipe's settings; without a section only equal records collapse."""
    return context.recipe.dedup or Dedup()  # type: ignore[call-arg]


@once
def signature_parts(context: Context) -> list[Part]:
    """The signature parts in the order of the clean parts: their rows, one behind another, are the documents."""
    rows = [context.ledger.read_row("signatures", task.key) for task in signatures.tasks(context)]
    return [row.part("signatures") for row in rows if row is not None]


@once
def exact_tasks(context: Context) -> list[Task]:
    """One unit over all signature parts."""
    parts = signature_parts(context)
    settings = settings_of(context)
    facts = {
        "parts": [part.digest for part in parts],
        "exact": settings.exact,
        "survivor": settings.survivor,
        "sources": context.recipe.sources,
        "near": settings.near is not None,
    }
    key = unit_key("exact", PACKAGES, facts)
    return [Task("exact", key, sum(part.bytes for part in parts), {"paths": [part.path for part in parts]})]


def exact_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Ranks all documents, takes out the exact duplicates, and lays the signatures side by side."""
    settings = settings_of(context)
    paths = [context.out / path for path in task.spec["paths"]]
    names = ["id", "source", "origin", "date", "length", "content", *(f"{kind}_key" for kind in settings.exact)]
    tables = [pq.read_table(path, columns=names) for path in paths]
    schema = signatures.schema_of({"exact": sorted(settings.exact), "near": None})
    table = pa.concat_tables(tables) if tables else schema.empty_table().select(names)
    origin = table.column("origin").combine_chunks()
    rank = dedup.total_order(
        dedup.OrderColumns(
            source=dedup.places(table.column("source"), context.recipe.sources),
            length=table.column("length").to_numpy(),
            date=table.column("date").cast(pa.timestamp("s")).to_numpy(),
            id=ids.matrix(table.column("id")),
            content=ids.matrix(table.column("content")),
            file=pa.compute.struct_field(origin, "file"),
            offset=pa.compute.struct_field(origin, "offset").to_numpy(zero_copy_only=False),
            inner_offset=pa.compute.struct_field(origin, "inner_offset").to_numpy(zero_copy_only=False),
        ),
        settings.survivor,
    )
    kinds: list[tuple[str, ids.Ids, npt.NDArray[np.bool_] | None]] = [
        ("same_record", ids.matrix(table.column("id")), None)
    ]
    for kind in ("url", "text"):
        if kind in settings.exact:
            column = table.column(f"{kind}_key")
            kinds.append((f"same_{kind}", ids.matrix(column), column.is_valid().to_numpy()))
    survivor, reason = dedup.exact_losers(rank, kinds)
    columns = {"rank": rank, "survivor": survivor, "reason": reason}
    pq.write_table(pa.table(columns), folder / "exact", compression="zstd")
    staged = [Staged(folder / "exact", f"dedup/exact-{task.key[:20]}.parquet")]
    if settings.near:
        with (folder / "matrix").open("wb") as file:
            for path in paths:
                for batch in read_batches(path, ["signature"]):
                    column = batch.column("signature")
                    width = column.type.byte_width
                    data = column.buffers()[1].to_pybytes() if len(column) else b""
                    file.write(data[column.offset * width : (column.offset + len(column)) * width])
        staged.append(Staged(folder / "matrix", f"dedup/matrix-{task.key[:20]}.bin"))
    reporter.add(size=task.size)
    return staged, {"documents": table.num_rows, "losers": int((reason >= 0).sum())}


def _exact_row(context: Context) -> Row:
    (task,) = exact_tasks(context)
    row = context.ledger.read_row("exact", task.key)
    assert row is not None
    return row


def _exact_table(context: Context, path: str) -> tuple[lsh.Rows, lsh.Rows, npt.NDArray[np.int8]]:
    table = pq.read_table(context.out / path)
    rank, survivor, reason = (table.column(name).to_numpy() for name in ("rank", "survivor", "reason"))
    return rank, survivor, reason


def _matrix(context: Context, path: str, permutations: int) -> npt.NDArray[np.uint32]:
    file = context.out / path
    if file.stat().st_size == 0:
        return np.zeros((0, permutations), np.uint32)
    return np.memmap(file, "<u4", "r").reshape(-1, permutations)


@once
def band_tasks(context: Context) -> list[Task]:
    """One unit for each band; none where the recipe asks for no near duplicates."""
    near = settings_of(context).near
    if near is None:
        return []
    row = _exact_row(context)
    exact, matrix = row.parts
    bands, rows = lsh.bands_and_rows(near.threshold, near.permutations)
    need = lsh.min_equal(near.threshold, near.permutations)
    found = []
    for band in range(bands):
        spec = {"band": band, "rows": rows, "min_equal": need, "permutations": near.permutations}
        key = unit_key("bands", PACKAGES, spec | {"exact": exact.digest, "matrix": matrix.digest})
        found.append(Task("bands", key, matrix.bytes, spec | {"exact": exact.path, "matrix": matrix.path}))
    return found


def band_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The verified edges of a band among the documents that are no exact duplicates."""
    spec = task.spec
    rank, _, reason = _exact_table(context, spec["exact"])
    matrix = _matrix(context, spec["matrix"], spec["permutations"])
    edges = lsh.edges_of_band(matrix, spec["band"], spec["rows"], spec["min_equal"], rank, np.flatnonzero(reason < 0))
    pq.write_table(
        pa.table({"left": edges.left, "right": edges.right, "equal": edges.equal}), folder / "edges", compression="zstd"
    )
    reporter.add(size=task.size)
    figures = ("buckets", "largest", "rounds", "comparisons", "narrowed", "unresolved")
    body = {name: int(getattr(edges, name)) for name in figures}
    return [Staged(folder / "edges", f"dedup/band-{task.key[:20]}.parquet")], body | {"edges": len(edges.left)}


@once
def cluster_tasks(context: Context) -> list[Task]:
    """One unit over the edges of all bands."""
    row = _exact_row(context)
    bands = [context.ledger.read_row("bands", task.key) for task in band_tasks(context)]
    parts = [part for band in bands if band is not None for part in band.parts]
    near = settings_of(context).near
    signed = signature_parts(context)
    facts = {
        "exact": [part.digest for part in row.parts],
        "bands": [part.digest for part in parts],
        "parts": [part.digest for part in signed],
        "threshold": near.threshold if near else None,
    }
    spec = {
        "exact": [part.path for part in row.parts],
        "bands": [part.path for part in parts],
        "parts": [part.path for part in signed],
    }
    return [Task("clusters", unit_key("clusters", PACKAGES, facts), sum(p.bytes for p in parts), spec)]


def cluster_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Losers with their survivors, the DROPPED rows of the losers, and the decisions for each clean part."""
    near = settings_of(context).near
    rank, survivor, reason = _exact_table(context, task.spec["exact"][0])
    edges = matrix = None
    if near is not None:
        matrix = _matrix(context, task.spec["exact"][1], near.permutations)
        found = [pq.read_table(context.out / path) for path in task.spec["bands"]]
        none = np.zeros(0, np.int64)
        edges = (
            np.concatenate([none, *(table.column("left").to_numpy() for table in found)]),
            np.concatenate([none, *(table.column("right").to_numpy() for table in found)]),
        )
    result = dedup.duplicates(rank, (survivor, reason), edges, matrix)
    staged = []
    start = 0
    sizes = np.where(result.kept, result.cluster, 0).astype(np.int32)
    names = []
    for number, path in enumerate(task.spec["parts"]):
        count = pq.read_metadata(context.out / path).num_rows
        pq.write_table(pa.table({"cluster_size": sizes[start : start + count]}), folder / f"d{number}")
        staged.append(Staged(folder / f"d{number}", f"dedup/decision-{number:05d}-{task.key[:20]}.parquet"))
        names.append(path)
        start += count
    columns = ["id", "source", "url", "origin"]
    tables = [pq.read_table(context.out / path, columns=columns) for path in task.spec["parts"]]
    reasons: dict[str, int] = {}
    with PartWriter(folder / "dup", DUPLICATES) as duplicates, PartWriter(folder / "lost", DROPPED) as lost:
        if len(result.loser):
            table = pa.concat_tables(tables).combine_chunks()
            for low in range(0, len(result.loser), 65_536):
                span = slice(low, low + 65_536)
                losers = table.take(pa.array(result.loser[span])).to_pylist()
                kept = table.take(pa.array(result.survivor[span])).to_pylist()
                figures = zip(result.reason[span].tolist(), result.similarity[span].tolist(), strict=True)
                both, drops = [], []
                clusters = result.cluster[result.loser[span]].tolist()
                for loser, winner, (code, similarity), size in zip(losers, kept, figures, clusters, strict=True):
                    name = dedup.REASONS[code]
                    reasons[name] = reasons.get(name, 0) + 1
                    value = None if math.isnan(similarity) else similarity
                    both.append(
                        {
                            "loser": loser["id"], "survivor": winner["id"], "reason": name, "similarity": value,
                            "cluster_size": size, "loser_source": loser["source"], "survivor_source": winner["source"],
                            "loser_url": loser["url"], "survivor_url": winner["url"],
                        }
                    )  # fmt: skip
                    limit = near.threshold if near and name == "near_duplicate" else None
                    drops.append(
                        loser
                        | {"stage": DEDUP_LABEL, "reason": f"{DEDUP_LABEL}.{name}", "value": value, "limit": limit,
                                 "survivor": winner["id"]}
                    )  # fmt: skip
                duplicates.write_rows(both)
                lost.write_rows(drops)
    staged.append(Staged(folder / "dup", f"duplicates/{task.key[:20]}.parquet"))
    staged.append(Staged(folder / "lost", f"dropped/dedup-{task.key[:20]}.parquet"))
    reporter.add(size=task.size)
    sizes_of_clusters = np.bincount(result.cluster[result.kept]) if len(rank) else np.zeros(0, np.int64)
    body = {
        "entered": len(rank),
        "dropped": {f"{DEDUP_LABEL}.{name}": reasons[name] for name in sorted(reasons)},
        "clusters": {
            str(size): int(count) for size, count in enumerate(sizes_of_clusters.tolist()) if count and size > 1
        },
    }
    return staged, body


def cluster_row(context: Context) -> Row:
    """The manifest row of the decisions."""
    (task,) = cluster_tasks(context)
    row = context.ledger.read_row("clusters", task.key)
    assert row is not None
    return row


@once
def decisions(context: Context) -> dict[str, Part]:
    """For each clean part (path) the part with a cluster size for each of its rows, 0 for a loser."""
    found = [part for part in cluster_row(context).parts if part.path.startswith("dedup/decision-")]
    return {clean.path: part for clean, part in zip(signatures.clean_parts(context), found, strict=True)}
