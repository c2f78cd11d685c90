"""The documents of several corpora in one global order: sorted on disk by shuffle hash, exact, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import ids
from pipeline.corpora import new
from pipeline.corpora.described import stems
from pipeline.errors import UserError
from pipeline.parts import read_batches
from pipeline.shards import Corpus, Shard
from pipeline.shuffle import assign_shards, shuffle_hashes

BUCKETS = 64
FURTHER = 1000
"""Added to the number of a copy for each corpus before: more than any mixture takes of one document."""
_RECORD = np.dtype(
    [
        ("hash", "<u8"),
        ("high", "<u8"),
        ("low", "<u8"),
        ("copy", "<i4"),
        ("place", "<u4"),
        ("row", "<u4"),
        ("size", "<i4"),
    ]
)
_ORDER = np.dtype([("place", "<u4"), ("row", "<u4"), ("copy", "<i4"), ("size", "<i4")])


class Shuffle:
    """All copies of all documents of these shards, by (shuffle hash, id, copy); each group of each split by itself.

    Memory: about 100 bytes a document of a 64th of a split, 8 for each document where shards are cut, and the rows of
    one shard.
    """

    def __init__(
        self,
        places: Sequence[tuple[int, Corpus, Shard]],
        later: Sequence[npt.NDArray[np.int64] | None],
        *,
        drop: bool,
        seed: int,
        tokens_per_shard: int,
        scratch: Path,
    ) -> None:
        """`places`: the shards, with the number of their corpus; `later`: for each the rows of documents that an
        earlier corpus has too. `drop` leaves those out, else they become further copies."""
        self.places, self.later, self.drop = places, later, drop
        self.seed, self.tokens_per_shard, self.scratch = seed, tokens_per_shard, scratch

    def write(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """Writes the shards into a folder, and returns them by split as `corpus.json` lists them."""
        sets: dict[str, dict[str | None, list[int]]] = {}
        for number, (_, _, shard) in enumerate(self.places):
            new.check_digests(shard)
            sets.setdefault(shard.split, {}).setdefault(shard.group, []).append(number)
        made: dict[str, list[dict[str, Any]]] = {}
        for split, groups in sets.items():
            planned = [(group, *self._order(members)) for group, members in groups.items()]
            names = iter(stems([(split, group) for group, _, cuts in planned for _ in cuts[1:]]))
            made[split] = []
            for group, order, cuts in planned:
                schema = self._schema(groups[group])
                for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
                    stem = next(names)
                    facts = self._write(folder / stem, np.array(order[start:stop]), schema)
                    made[split].append({"stem": stem} | ({} if group is None else {"group": group}) | facts)
            if not made[split]:
                del made[split]
        return made

    def _order(self, members: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The documents of these shards in order, mapped from a file, and where the new shards begin."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        files = [(self.scratch / f"hashes-{number:02d}").open("w+b") for number in range(BUCKETS)]
        path = self.scratch / f"order-{members[0]}"
        try:
            for number in members:
                for records in self._records(number):
                    bucket = (records["hash"] >> np.uint64(58)).astype(np.int64)
                    for here in np.unique(bucket).tolist():
                        files[here].write(records[bucket == here].tobytes())
            with path.open("wb") as out:
                for file in files:
                    file.seek(0)
                    records = np.frombuffer(file.read(), _RECORD)
                    keys = ("row", "place", "copy", "low", "high", "hash")
                    places = np.lexsort([records[name] for name in keys])
                    sorted_ = np.empty(len(records), _ORDER)
                    for name in _ORDER.names or ():
                        sorted_[name] = records[name][places]
                    out.write(sorted_.tobytes())
        finally:
            for file in files:
                file.close()
                Path(file.name).unlink(missing_ok=True)
        order: npt.NDArray[Any] = np.memmap(path, _ORDER, "r") if path.stat().st_size else np.zeros(0, _ORDER)
        return order, assign_shards(order["size"], self.tokens_per_shard)

    def _records(self, number: int) -> Iterator[npt.NDArray[Any]]:
        owner, _, shard = self.places[number]
        gone = self.later[number]
        row = 0
        for batch in read_batches(shard.path(".docs.parquet"), ["id", "copy", "token_start", "token_end"]):
            known = ids.matrix(batch.column("id"))
            copy = batch.column("copy").to_numpy(zero_copy_only=False).astype(np.int32)
            rows = np.arange(row, row + batch.num_rows)
            twice = np.zeros(len(rows), bool) if gone is None else np.isin(rows, gone)
            if not self.drop:
                copy = copy + np.int32(FURTHER * owner) * twice
            records = np.empty(len(rows), _RECORD)
            records["hash"] = shuffle_hashes(known, self.seed, copy)
            records["high"], records["low"] = ids.halves(known)
            records["copy"], records["place"], records["row"] = copy, number, rows
            records["size"] = (batch.column("token_end").to_numpy() - batch.column("token_start").to_numpy()).astype(
                "<i4"
            )
            row += batch.num_rows
            yield records[~twice] if self.drop else records

    def _schema(self, members: Sequence[int]) -> pa.Schema:
        """The columns of all these tables."""
        schemas = [pq.read_schema(self.places[number][2].path(".docs.parquet")).remove_metadata() for number in members]
        try:
            schema = pa.unify_schemas(schemas)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"the tables of documents do not go together: {error}") from error
        last = ("token_start", "token_end")
        return pa.schema(
            [*(field for field in schema if field.name not in last), *(schema.field(name) for name in last)]
        )

    def _write(self, stem: Path, order: npt.NDArray[Any], schema: pa.Schema) -> dict[str, Any]:
        """One new shard of the documents of an order, and what `corpus.json` says of it."""
        used, source = np.unique(order["place"], return_inverse=True)
        tables = []
        at = np.zeros(len(order), np.int64)
        rows = 0
        for number, place in enumerate(used.tolist()):
            here = source == number
            wanted, inverse = np.unique(order["row"][here], return_inverse=True)
            at[here] = rows + inverse
            tables.append(_rows(self.places[place][2].path(".docs.parquet"), wanted, schema))
            rows += len(wanted)
        table = pa.concat_tables(tables)
        tokens = [self.places[place][1].tokens(self.places[place][2]) for place in used.tolist()]

        def pieces() -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
            for start in range(0, len(order), new.ROWS):
                stop = start + new.ROWS
                taken = table.take(pa.array(at[start:stop]))
                place = taken.schema.get_field_index("copy")
                copies = pa.array(order["copy"][start:stop], pa.int32())
                yield source[start:stop], taken.set_column(place, taken.schema.field(place), copies)

        return new.write_rows(stem, tokens, pieces(), schema)


def _rows(path: Path, wanted: npt.NDArray[Any], schema: pa.Schema) -> pa.Table:
    """These rows (ascending) of a table with all columns of a schema; only the row groups that hold one are read."""
    found = []
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = wanted[(wanted >= start) & (wanted < start + count)].astype(np.int64) - start
            if len(here):
                found.append(file.read_row_group(group).take(pa.array(here)))
            start += count
    table = pa.concat_tables(found).replace_schema_metadata(None)
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
