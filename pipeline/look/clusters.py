"""`corpusmill inspect --clusters`: which documents were found to be the same, how large the groups are, and chains.

A cluster is the documents that lost to one survivor, and the survivor. The tables of duplicates are read by batches;
clusters are counted in as many passes as keep each to some millions of losers, those of a cluster in one pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import accounts, ids
from pipeline.errors import UserError
from pipeline.look.runfolder import RunFolder
from pipeline.look.texts import Beginnings, beginnings
from pipeline.step_labels import DEDUP_LABEL

LOSERS = 8_000_000
"""Losers that a pass may hold: about half a gigabyte with the table of their clusters."""
MEMBERS = 3
"""Losers of a cluster that are shown, the least similar ones."""
CHARACTERS = 240
"""Of the beginning of a text."""
KEYS = {"similarity": pa.float64(), "loser": pa.binary(16)}
COLUMNS = ("survivor", "reason", "similarity", "cluster_size")
ROUNDING = 1e-6
"""What an estimate may lie below the threshold, as `pipeline.lsh.min_equal` reckons."""


def report(run: RunFolder, most: int = 5, characters: int = CHARACTERS) -> dict[str, Any]:
    """Sizes, reasons, and at most so many of the largest clusters and of the worst chains, with the
    beginnings of their texts.

    Raises UserError where the run has not come to deduplication, or `corpusmill clean` took the duplicates away.
    """
    step = next((step for step in accounts.funnel(run.ledger) if step.stage == DEDUP_LABEL), None)
    if step is None:
        raise UserError(f"the run in {run.folder} has not come to deduplication yet; run its recipe")
    dedup = run.context.recipe.dedup
    near = dedup.near if dedup else None
    threshold = near.threshold if near else None
    list(run.batches("duplicates", []))  # says so where they are gone
    facts = _Counts(most, threshold)
    losers = sum(pq.read_metadata(path).num_rows for path in run.parts("duplicates"))
    passes = max(1, math.ceil(losers / LOSERS))
    for number in range(passes):
        facts.add(_clusters(run, number, passes, facts.reasons))
    chosen = {one["survivor"]: one for one in (*facts.largest, *facts.chains)}
    members = _members(run, list(chosen))
    texts = beginnings(run, {*chosen, *(row["loser"] for rows in members.values() for row in rows)}, characters)
    return {
        "threshold": threshold,
        "mode": dedup.mode if dedup else "drop",
        "entered": step.entered,
        "removed": losers,
        "clusters": facts.clusters,
        "largest_size": max((one["size"] for one in facts.largest), default=0),
        "reasons": dict(sorted(facts.reasons.items(), key=lambda item: (-item[1], item[0]))),
        "sizes": [
            {"from": 1 << power, "to": (2 << power) - 1, "clusters": clusters, "removed": removed}
            for power, (clusters, removed) in sorted(facts.sizes.items())
        ],
        "chained_clusters": facts.chained,
        "chained_removed": facts.chained_removed,
        "largest": [_described(one, members[one["survivor"]], texts) for one in facts.largest],
        "chains": [_described(one, members[one["survivor"]], texts) for one in facts.chains],
    }


class _Counts:
    """What is known of the clusters so far."""

    def __init__(self, most: int, threshold: float | None) -> None:
        self.most = most
        self.chain_below = -math.inf if threshold is None else threshold - ROUNDING
        self.clusters = self.chained = self.chained_removed = 0
        self.reasons: dict[str, int] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        """By the power of two that a size reaches: clusters, documents removed."""
        self.largest: list[dict[str, Any]] = []
        self.chains: list[dict[str, Any]] = []

    def add(self, table: pa.Table) -> None:
        """Adds clusters: survivor, size, removed, lowest."""
        self.clusters += len(table)
        power = np.log2(table.column("size").to_numpy()).astype(np.int64)
        removed = table.column("removed").to_numpy()
        for one in np.unique(power).tolist():
            clusters, before = self.sizes.get(one, (0, 0))
            here = power == one
            self.sizes[one] = (clusters + int(here.sum()), before + int(removed[here].sum()))
        chained = table.filter(pc.fill_null(pc.less(table.column("lowest"), self.chain_below), False))
        self.chained += len(chained)
        self.chained_removed += pc.sum(chained.column("removed")).as_py() or 0
        self.largest = self._first([*self.largest, *_rows(table, "size", "descending", self.most)], "size", -1)
        self.chains = self._first([*self.chains, *_rows(chained, "lowest", "ascending", self.most)], "lowest", 1)

    def _first(self, rows: list[dict[str, Any]], name: str, sign: int) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: (sign * row[name], row["survivor"]))[: self.most]


def _rows(table: pa.Table, name: str, order: str, most: int) -> list[dict[str, Any]]:
    """The first rows by this column, with all that equal the last of them."""
    if not len(table) or not most:
        return []
    best = pc.select_k_unstable(table, min(most, len(table)), [(name, order)])
    last = table.column(name).take(best[-1:])[0]
    keep = pc.greater_equal if order == "descending" else pc.less_equal
    ties: pa.Table = table.filter(keep(table.column(name), last))
    if len(ties) > max(1_000, 4 * most):  # as where very many clusters are pairs: those of the least ids
        ties = _least_ids(ties, name, order, most)
    return list(ties.to_pylist())


def _least_ids(table: pa.Table, name: str, order: str, most: int) -> pa.Table:
    values = table.column(name).to_numpy()
    high, low = ids.halves(ids.matrix(table.column("survivor")))
    return table.take(np.lexsort((low, high, -values if order == "descending" else values))[:most])


def _clusters(run: RunFolder, number: int, passes: int, reasons: dict[str, int]) -> pa.Table:
    """The clusters whose survivor's id falls to this pass: survivor, size, removed, lowest similarity. In the first
    pass the reasons of all losers are counted."""
    pieces = []
    for batch in run.batches("duplicates", COLUMNS):
        if number == 0:
            for one in pc.value_counts(batch.column("reason")).to_pylist():
                reasons[one["values"]] = reasons.get(one["values"], 0) + one["counts"]
        batch = batch.select(["survivor", "similarity", "cluster_size"])
        pieces.append(
            batch.filter(pa.array(_falls(batch.column("survivor"), passes) == number)) if passes > 1 else batch
        )
    kind = pa.schema([("survivor", pa.binary(16)), ("similarity", pa.float64()), ("cluster_size", pa.int64())])
    table = pa.Table.from_batches(pieces) if pieces else kind.empty_table()
    found = table.group_by("survivor").aggregate([("cluster_size", "max"), ([], "count_all"), ("similarity", "min")])
    columns = {"survivor": "survivor", "cluster_size_max": "size", "count_all": "removed", "similarity_min": "lowest"}
    return found.select(list(columns)).rename_columns(list(columns.values()))


def _falls(survivors: pa.Array, passes: int) -> npt.NDArray[np.uint64]:
    """(rows,) the pass to which each survivor falls: ids are hashes, so their last bytes are as good as one."""
    _, low = ids.halves(ids.matrix(survivors))
    return low % np.uint64(passes)


def _members(run: RunFolder, survivors: list[bytes]) -> dict[bytes, list[dict[str, Any]]]:
    """For each of these clusters some losers, the least similar ones first; then by their ids."""
    found: dict[bytes, list[dict[str, Any]]] = {one: [] for one in survivors}
    wanted = pa.array(survivors, pa.binary(16))
    for path in run.parts("duplicates") if survivors else []:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=["survivor"]).column("survivor")
                here = pc.unique(column.filter(pc.is_in(column, value_set=wanted))).to_pylist()
                if not here:
                    continue
                table = file.read_row_group(group)
                for one in here:
                    mine = table.filter(pc.equal(column, pa.scalar(one, pa.binary(16))))
                    found[one] += mine.take(_least_similar(mine.column("similarity"), mine.column("loser"))).to_pylist()
    for one, rows in found.items():
        table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in KEYS.items()})
        found[one] = [rows[place] for place in _least_similar(table.column("similarity"), table.column("loser"))]
    return found


def _least_similar(similarity: pa.ChunkedArray, losers: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    high, low = ids.halves(ids.matrix(losers))
    return np.lexsort((low, high, pc.fill_null(similarity, math.inf).to_numpy()))[:MEMBERS]


def _described(one: dict[str, Any], members: list[dict[str, Any]], texts: Beginnings) -> dict[str, Any]:
    """A cluster as JSON can hold it. `in_run` is false where the survivor is a document of an earlier crawl, and null
    where that is not known any more."""
    survivor = one["survivor"]
    in_run = True if survivor in texts.texts else False if texts.searched_all else None
    first = members[0] if members else {}
    return {
        "survivor": survivor.hex(),
        "in_run": in_run,
        "source": first.get("survivor_source"),
        "url": first.get("survivor_url"),
        "text": texts.texts.get(survivor),
        "size": one["size"],
        "removed": one["removed"],
        "lowest": one["lowest"],
        "members": [
            {
                "id": row["loser"].hex(),
                "source": row["loser_source"],
                "url": row["loser_url"],
                "reason": row["reason"],
                "similarity": row["similarity"],
                "text": texts.texts.get(row["loser"]),
            }
            for row in members
        ],
    }
