"""Phases bands and join: candidates for near duplicates, and the edges among them.

`bands` writes the band table of each signed part. `join` has a unit for each range of keys of each band, whose result
are the edges between documents that it found and verified: pairs of ranks, the lesser one on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import index, lsh, matching
from pipeline.ledger import Part, Staged
from pipeline.mapping import mapped
from pipeline.phases import exact, signatures
from pipeline.progress import Reporter
from pipeline.signed import SignedPart
from pipeline.work import Context, Task, once, unit_key

PACKAGES = ("numpy", "numba")


def rule_of(context: Context) -> lsh.Rule | None:
    """When documents are near duplicates; None where the recipe does not ask."""
    near = exact.settings_of(context).near
    if near is None:
        return None
    bands, rows = lsh.bands_and_rows(near.threshold, near.permutations)
    if near.bands is not None and near.rows is not None:
        bands, rows = near.bands, near.rows
    return lsh.Rule(near.threshold, near.permutations, bands, rows, near.verify == "exact")


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each signed part; none where the recipe asks for no near duplicates."""
    rule = rule_of(context)
    if rule is None:
        return []
    found = []
    for row, _ in signatures.committed(context):
        matrix = _file(row.parts, ".bin")
        spec = {"permutations": rule.permutations, "bands": rule.bands, "rows": rule.rows}
        key = unit_key("bands", PACKAGES, spec | {"matrix": [matrix.path, matrix.digest]})
        found.append(Task("bands", key, matrix.bytes, spec | {"matrix": matrix.path}))
    return found


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The band table of a part."""
    spec = task.spec
    values = mapped(context.file(spec["matrix"]), "<u4").reshape(-1, spec["permutations"])
    lsh.write_band_table(values, spec["bands"], spec["rows"], folder / "out")
    reporter.add(size=task.size)
    body = {"documents": len(values), "matrix": spec["matrix"]}
    return [Staged(folder / "out", f"dedup/bands-{task.key[:20]}.bin")], body


@once
def committed(context: Context) -> list[Part]:
    """The band table of each signed part of this run."""
    rows = [context.ledger.read_row("bands", task.key) for task in tasks(context)]
    return [row.part("dedup") for row in rows if row is not None]


@once
def signed(context: Context) -> list[SignedPart]:
    """All signed parts, with their band tables."""
    of = {row.body["matrix"]: Path(row.part("dedup").path) for row in context.ledger.rows("bands")}
    return [
        replace(part, bands=part.beside("bands") if part.known else of[str(part.beside("bin"))])
        for part in exact.signed(context)
    ]


@once
def join_tasks(context: Context) -> list[Task]:
    """One unit for each range of keys of each band."""
    rule = rule_of(context)
    if rule is None:
        return []
    near = exact.settings_of(context).near
    assert near is not None
    rows = signatures.committed(context)
    endings = (".bin", ".offsets", ".sets")
    reads = [part for row, _ in rows for part in row.parts if part.path.endswith(endings)] + committed(context)
    facts = {
        "exact": exact.digest(context),
        "known": index.digest(context),
        "parts": [part.digest for part in reads],
        "rule": vars(rule),
    }
    pieces = lsh.ranges_of(exact.committed(context).body["documents"])
    size = sum(part.bytes for part in reads) // (rule.bands * pieces)
    paths = tuple(part.path for part in (*reads, *exact.committed(context).parts))
    found = []
    for band in range(rule.bands):
        for piece in range(pieces):
            spec = {"band": band, "piece": [piece, pieces]}
            found.append(Task("join", unit_key("join", PACKAGES, facts | spec), size, spec, paths))
    return found


def join_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The edges of one range of a band."""
    rule = rule_of(context)
    assert rule is not None
    number, count = task.spec["piece"]
    order = lsh.Order(
        rank=exact.found(context, "rank"),
        alone=exact.found(context, "reason") >= 0,
        known=exact.found(context, "known"),
        bounds=np.array(exact.committed(context).body["bounds"]),
    )
    joined = lsh.join(signed(context), order, rule, task.spec["band"], (number, count), folder)
    table = pa.table({"left": joined.left, "right": joined.right})
    pq.write_table(table, folder / "edges", compression="zstd")
    reporter.add(size=task.size)
    figures = dict(zip(matching.NAMES, joined.figures.tolist(), strict=True))
    body = {"band": task.spec["band"], "buckets": joined.buckets, "edges": len(joined.left)} | figures
    return [Staged(folder / "edges", f"dedup/edges-{task.key[:20]}.parquet")], body


@once
def edges(context: Context) -> list[Part]:
    """The parts of edges, one for each unit of the join."""
    rows = [context.ledger.read_row("join", task.key) for task in join_tasks(context)]
    return [row.part("dedup") for row in rows if row is not None]


def _file(parts: Sequence[Part], ending: str) -> Part:
    return next(part for part in parts if part.path.endswith(ending))
