"""Phase exact: the total order of all documents, and which of them are equal in id, URL or text.

One unit over the tables of all signed parts, those of earlier runs in an index first. What it finds lies in plain files
with an entry for each document, which later units map: `rank`, `survivor` (the document that it lost to), `reason`, and
for documents of earlier runs `known` (the rank of their cluster's survivor).

Memory: about 250 bytes a document at its peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import components, dedup, ids, index
from pipeline.errors import UserError
from pipeline.ledger import Row, Staged, digest_of
from pipeline.mapping import mapped
from pipeline.phases import signatures
from pipeline.progress import Reporter
from pipeline.recipe import Dedup
from pipeline.signed import Rows, SignedPart, starts_of
from pipeline.work import Context, Task, once, unit_key

FILES = {"rank": "<u4", "survivor": "<u4", "reason": "i1", "known": "<u4"}


def settings_of(context: Context) -> Dedup:
    """The recipe's settings; without a section only equal records collapse."""
    return context.recipe.dedup or Dedup()  # type: ignore[call-arg]


@once
def tasks(context: Context) -> list[Task]:
    """One unit over all signed parts."""
    rows = signatures.committed(context)
    settings = settings_of(context)
    facts = {
        "parts": [[[part.digest for part in row.parts], generation] for row, generation in rows],
        "known": index.digest(context),
        "files": _parts(context),  # the row says where later phases find them
        "exact": settings.exact,
        "survivor": settings.survivor,
        "sources": context.recipe.sources,
    }
    tables = [part for row, _ in rows for part in row.parts if part.path.endswith((".parquet", ".names"))]
    index.refuse_again(context, [part.digest for part in tables if part.path.endswith(".names")])
    size = sum(part.bytes for part in tables)
    spec = {"parts": _parts(context)}
    return [Task("exact", unit_key("exact", ("numpy",), facts), size, spec, tuple(part.path for part in tables))]


def _parts(context: Context) -> list[list[Any]]:
    """All documents, as parts: those of earlier runs in the recipe's index, then this run's; fit for JSON."""
    known = index.known(context)
    first = known[-1].generation + 1 if known else 0
    rows = signatures.committed(context)
    ages = sorted({generation for _, generation in rows})
    return [[str(part.stem), part.rows, part.generation, True] for part in known] + [
        [row.part("signatures").path.rpartition(".")[0], row.body["documents"], first + ages.index(generation), False]
        for row, generation in rows
    ]


def _opened(context: Context, parts: list[list[Any]]) -> list[SignedPart]:
    there = index.opener(context)
    return [
        SignedPart(Path(stem), None, rows, generation, known, there if known else context.file)
        for stem, rows, generation, known in parts
    ]


@once
def signed(context: Context) -> list[SignedPart]:
    """All documents, as parts: those of earlier runs first. Without band tables."""
    return _opened(context, committed(context).body["parts"])


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Ranks all documents and takes out the exact duplicates."""
    parts = _opened(context, task.spec["parts"])
    old = sum(part.rows for part in parts if part.known)
    if (documents := sum(part.rows for part in parts)) >= components.MOST:
        raise UserError(f"{documents} documents are more than one run can deduplicate: fewer than 2^32 - 1")
    settings = settings_of(context)
    generation = np.repeat([part.generation for part in parts], [part.rows for part in parts])
    id_matrix = _ids(parts)
    rank = np.concatenate([np.zeros(0, np.int64), *(index.column(part, "rank") for part in parts if part.known)])
    own = [part for part in parts if not part.known]
    rank = np.concatenate([rank, old + _rank(own, id_matrix[old:], generation[old:], context)])
    kinds: list[tuple[str, ids.AnyIds, npt.NDArray[np.bool_] | None]] = [("same_record", id_matrix, None)]
    for kind in ("url", "text"):
        if kind in settings.exact:
            column = pa.chunked_array(
                [c for part in parts for c in _table(part, [f"{kind}_key"]).column(0).chunks], pa.binary(16)
            )
            kinds.append((f"same_{kind}", column, column.is_valid().to_numpy()))
    known = np.concatenate([np.zeros(0, np.int64), *(index.column(part, "survivor") for part in parts if part.known)])
    why = np.concatenate([np.zeros(0, np.int8), *(index.column(part, "reason") for part in parts if part.known)])
    by_key = (why >= 0) & (why < dedup.REASONS.index("near_duplicate"))
    before = np.where(by_key, known, np.arange(old)), np.where(by_key, why, -1).astype(np.int8)
    survivor, reason = dedup.exact_losers(rank, kinds, before)
    found = {"rank": rank, "survivor": survivor, "reason": reason, "known": rank[known] if old else known}
    for name, kind in FILES.items():
        (folder / name).write_bytes(found[name].astype(kind).tobytes())
    reporter.add(size=task.size)
    body = {
        "parts": task.spec["parts"],
        "documents": len(rank),
        "known": old,
        "losers": int((reason[old:] >= 0).sum()),
        "bounds": [0, *np.cumsum(np.unique(generation, return_counts=True)[1]).tolist()],
    }
    return [Staged(folder / name, f"dedup/{name}-{task.key[:20]}.bin") for name in FILES], body


def _table(part: SignedPart, columns: list[str]) -> pa.Table:
    return pq.read_table(part.file("parquet"), columns=columns)


def _ids(parts: Sequence[SignedPart]) -> ids.Ids:
    found = [ids.matrix(_table(part, ["id"]).column("id")) for part in parts]
    return np.concatenate([np.zeros((0, 16), np.uint8), *found])


def _rank(parts: Sequence[SignedPart], id_matrix: ids.Ids, generation: npt.NDArray[np.int64], context: Context) -> Rows:
    """The places of this run's documents in the total order among themselves."""
    none = np.zeros(0, np.int64)
    sources = [none]
    for part in parts:
        with pa.memory_map(str(part.file("names"))) as file:
            column = pa.ipc.open_file(file).read_all().column("source")
            sources.append(dedup.places(column, context.recipe.sources))
    tables = [_table(part, ["date", "length", "quality"]) for part in parts]

    def whole(name: str, kind: Any) -> npt.NDArray[Any]:
        return np.concatenate([none.astype(kind), *(_numbers(table.column(name), kind) for table in tables)])

    seconds = whole("date", np.float64)
    seconds[np.isnan(seconds)] = np.inf
    return dedup.total_order(
        dedup.OrderColumns(
            generation=generation,
            source=np.concatenate(sources),
            quality=whole("quality", np.float64),
            length=whole("length", np.int64),
            date=seconds,
            id=id_matrix,
            tie=_ties(parts, id_matrix),
        ),
        settings_of(context).survivor,
    )


def _numbers(column: pa.ChunkedArray, kind: Any) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = column.to_numpy().astype(kind)
    return found


def _ties(parts: Sequence[SignedPart], id_matrix: ids.Ids) -> Rows:
    """Places that order the records of one id: by content, then by where they lie. Read for these alone."""
    order = ids.ascending(id_matrix)
    begins = ids.starts(*ids.halves(id_matrix[order]))
    alone = begins & np.append(begins[1:], True)[: len(begins)]
    shared = np.sort(order[~alone])
    ties = np.zeros(len(id_matrix), np.int64)
    cuts = np.searchsorted(shared, starts_of(parts))
    tables = [
        _table(part, ["content", "origin"]).take(pa.array(shared[cuts[number] : cuts[number + 1]] - first))
        for number, (part, first) in enumerate(zip(parts, starts_of(parts)[:-1], strict=True))
        if cuts[number] < cuts[number + 1]
    ]
    if tables:
        table = pa.concat_tables(tables).combine_chunks()
        origin = table.column("origin")
        offsets = (pa.compute.struct_field(origin, name).to_numpy() for name in ("offset", "inner_offset"))
        ties[shared] = dedup.ties(table.column("content"), pa.compute.struct_field(origin, "file"), *offsets)
    return ties


@once
def committed(context: Context) -> Row:
    """The manifest row of the phase: its only one. So a worker need not work out what the phase was asked."""
    (row,) = context.ledger.rows("exact")
    return row


def found(context: Context, name: str) -> npt.NDArray[Any]:
    """One of FILES, mapped: an entry for each document (`known`: for each one of an earlier run)."""
    return opened(context, committed(context), name, FILES[name])


def opened(context: Context, row: Row, name: str, kind: str) -> npt.NDArray[Any]:
    """A plain file of a row, by the beginning of its name, mapped."""
    part = next(part for part in row.parts if part.path.startswith(f"dedup/{name}-"))
    return mapped(context.file(part.path), kind)


def digest(context: Context) -> str:
    """Over all that the phase found."""
    row = committed(context)
    return digest_of([[part.digest for part in row.parts], row.body["bounds"], row.body["known"]])
