"""Parts of tokens: the documents of a part in shuffle order, as two files that are read in place.

`.bin` holds the tokens of one document behind another, as shards do but without boundary tokens. `.arrow` holds a row
for each: all columns of the document but its texts, and

- `prefix_tokens`: so many of its tokens are the prefix that the recipe asks for;
- `n_tokens`, and `start`, the place of the first one in `.bin`;
- `split_hash`: by which it falls into a split (see `pipeline.splits`).

It is one batch and not compressed, so that a plan maps the columns that it needs, and a shard the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from pipeline.mapping import mapped
from pipeline.shuffle import shuffle_hashes
from pipeline.splits import split_hashes
from stages.kernels import njit

Rows = npt.NDArray[np.int64]

OWN = {"prefix_tokens": pa.int32(), "n_tokens": pa.int64(), "start": pa.int64(), "split_hash": pa.uint64()}
"""The columns that are not the document's."""
BLOCK = 1 << 25
"""Tokens that are gathered at once, but for a longer document."""
BLOCK_ROWS = 1 << 18


def write(stem: Path, table: pa.Table, tokens: Sequence[npt.NDArray[Any]], seed: int) -> dict[str, str]:
    """Writes a part: the digest of each file by its ending, `.bin` without one (None) where the ledger must read it.

    `table` has a row for each document with `prefix_tokens` and `n_tokens`; `tokens` are those of all documents in the
    order of the rows, in any number of arrays that each hold whole documents.
    """
    table = table.combine_chunks()
    ids = table.column("id")
    order = np.lexsort((np.arange(table.num_rows), shuffle_hashes(ids, seed)))
    lengths = table.column("n_tokens").to_numpy()
    sizes = np.array([len(values) for values in tokens], np.int64)
    begins = np.cumsum(sizes) - sizes
    starts = np.cumsum(lengths) - lengths
    source = np.searchsorted(begins + sizes, starts, side="right")
    source = np.minimum(source, max(0, len(sizes) - 1))
    digest = xxhash.xxh3_128()
    with stem.with_suffix(".bin").open("wb") as file:
        for rows in blocks(lengths[order]):
            some = order[rows]
            data = gathered(tokens, source[some], starts[some] - begins[source[some]], lengths[some])
            file.write(data.data)
            digest.update(data.data)
    table = table.append_column("start", pa.nulls(table.num_rows, pa.int64()))
    table = table.append_column("split_hash", pa.array(split_hashes(table.column("url"), ids, seed)))
    table = table.take(pa.array(order)).combine_chunks()
    ends = np.cumsum(table.column("n_tokens").to_numpy())
    place = table.schema.get_field_index("start")
    table = table.set_column(place, "start", pa.array(ends - table.column("n_tokens").to_numpy()))
    with pa.OSFile(str(stem.with_suffix(".arrow")), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return {".bin": digest.hexdigest()}


def opened(path: Path) -> pa.RecordBatch:
    """The documents of a part, mapped: what is looked at is read."""
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        return file.get_batch(0) if file.num_record_batches else pa.RecordBatch.from_pylist([], schema=file.schema)


def tokens_of(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The tokens of the part whose documents are in `path`, mapped."""
    return mapped(path.with_suffix(".bin"), dtype)


def taken(tables: Sequence[pa.RecordBatch], source: Rows, row: Rows, names: Sequence[str]) -> pa.Table:
    """Rows of several tables with equal columns, in any order: row `row` of `tables[source]`, (n,) each."""
    order = np.argsort(source, kind="stable")
    cuts = np.searchsorted(source[order], np.arange(len(tables) + 1))
    found = [
        tables[number].select(names).take(pa.array(row[order[cuts[number] : cuts[number + 1]]]))
        for number in np.flatnonzero(np.diff(cuts)).tolist()
    ]
    if not found:
        return tables[0].schema.empty_table().select(names)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.Table.from_batches(found).combine_chunks().take(pa.array(back))


def blocks(lengths: Rows) -> Iterator[slice]:
    """Cuts documents of these lengths into blocks of at most so many tokens, and of one document at least."""
    reached = np.append(0, np.cumsum(lengths))
    start = 0
    while start < len(lengths):
        stop = int(np.searchsorted(reached, reached[start] + BLOCK, side="right")) - 1
        stop = min(max(stop, start + 1), start + BLOCK_ROWS)
        yield slice(start, stop)
        start = stop


def gathered(
    sources: Sequence[npt.NDArray[Any]], source: Rows, start: Rows, length: Rows, edge: int | None = None, *,
    edge_last: bool = True,
) -> npt.NDArray[Any]:  # fmt: skip
    """The tokens of documents, one behind another: `length` of them from `start` in `sources[source]`.

    With an `edge`, that token stands behind each document, or before it.
    """
    room = length + (edge is not None)
    ends = np.cumsum(room)
    places = ends - room
    dtype = sources[0].dtype if len(sources) else np.dtype(np.uint16)
    out = np.empty(int(ends[-1]) if len(ends) else 0, dtype)
    if edge is not None:
        out[ends - 1 if edge_last else places] = edge
        places = places if edge_last else places + 1
    order = np.argsort(source, kind="stable")
    cuts = np.searchsorted(source[order], np.arange(len(sources) + 1))
    for number in np.flatnonzero(np.diff(cuts)).tolist():
        some = order[cuts[number] : cuts[number + 1]]
        _copy(out, places[some], sources[number], start[some], length[some])
    return out


@njit
def _copy(out: npt.NDArray[Any], places: Rows, values: npt.NDArray[Any], starts: Rows, lengths: Rows) -> None:
    for row in range(len(places)):
        place, start = places[row], starts[row]
        for offset in range(lengths[row]):
            out[place + offset] = values[start + offset]
