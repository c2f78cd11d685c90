"""Finding rows of many Parquet files: page by page from a place in them, without loading or skipping over the rest."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from pipeline.errors import RecipeError, UserError
from pipeline.look.browse.filters import Filter
from pipeline.look.database import damage, literal, name_of, scan
from pipeline.look.labels import Label

if TYPE_CHECKING:
    import duckdb

SECONDS = 3.0
"""How long a page may be looked for before what was found so far is shown."""
HARD_SECONDS = 30.0
"""When a query that cannot be cut into pieces is given up."""
FIRST_ROWS = 200_000
"""Rows of the files that the first query of a search reads; each later one reads four times as many."""
MOST_ROWS = 4_000_000
SEARCH_ROWS = 40_000
"""Rows that each query reads where texts are searched: megabytes, not gigabytes, between two looks at the clock."""
SNIPPET = 280
KEY = "corpusmill/review/"
"""Before an id's hex digits; the MD5 of both orders a sample."""


class Place(NamedTuple):
    """A row: the number of its file among the table's, and its number in the file."""

    part: int
    row: int

    def __str__(self) -> str:
        return f"{self.part}.{self.row}"

    @classmethod
    def of(cls, text: str) -> Place:
        """Raises RecipeError for what is no place."""
        if not re.fullmatch(r"\d{1,9}\.\d{1,12}", text):
            raise RecipeError(f"at={text}: a place is FILE.ROW, such as 0.17")
        part, _, row = text.partition(".")
        return cls(int(part), int(row))


@dataclass(frozen=True)
class Found:
    """Rows that fit a filter."""

    rows: list[dict[str, Any]]
    """In the order of the table, each with its `place`."""
    stopped: Place | None = None
    """Where the time was up: the next row that was not looked at; None where it was enough."""
    looked: int = 0
    """Rows that were looked at."""


@dataclass
class Rows:
    """A table of a run folder, over files that do not change."""

    folder: Path
    database: duckdb.DuckDBPyConnection
    files: list[Path]
    """One at least."""
    columns: dict[str, bool]
    """Columns, and whether each is numeric."""
    labels: Callable[[], dict[str, Label]]
    _samples: dict[Filter, list[Place]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def counts(self) -> list[int]:
        """Rows of each file."""
        try:
            return [pq.read_metadata(path).num_rows for path in self.files]
        except (OSError, ValueError) as error:
            raise damage(self.folder, error) from error

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(self.counts)

    def find(
        self, asked: Filter, start: Place | None, most: int, *, backwards: bool = False, seconds: float = SECONDS
    ) -> Found:
        """At most `most` rows that fit, from `start` on; backwards: the last ones before it. None: from the edge.

        Files are read a few at a time; where that takes longer than `seconds`, what was found is given.
        """
        place = start or (Place(len(self.files), 0) if backwards else Place(0, 0))
        where = self._where(asked)
        end = time.monotonic() + seconds
        found: list[dict[str, Any]] = []
        looked, size = 0, FIRST_ROWS
        for first, last in self._chunks(place, SEARCH_ROWS if asked.search else size, backwards, bool(asked.search)):
            rows = self._query(where, first, last, place, most - len(found), backwards)
            found += rows
            looked += sum(self.counts[first:last])
            if len(found) >= most:
                break
            if time.monotonic() > end and (first > 0 if backwards else last < len(self.files)):
                stopped = Place(first, 0) if backwards else Place(last, 0)
                return Found(found[::-1] if backwards else found, stopped, looked)
        return Found(found[::-1] if backwards else found, None, looked)

    def _chunks(self, place: Place, size: int, backwards: bool, even: bool) -> Iterator[tuple[int, int]]:
        """Ranges of files, from the one with `place`, each of about `size` rows; `even`: not growing."""
        at = min(place.part + 1, len(self.files)) if backwards else place.part
        while at > 0 if backwards else at < len(self.files):
            first = last = at
            rows = 0
            while (rows < size or last - first < 2) and (first > 0 if backwards else last < len(self.files)):
                if backwards:
                    first -= 1
                    rows += self.counts[first]
                else:
                    rows += self.counts[last]
                    last += 1
            yield first, last
            at = first if backwards else last
            size = size if even else min(MOST_ROWS, 4 * size)

    def _where(self, asked: Filter) -> tuple[list[str], list[object]]:
        """The filter as conditions, and the values that belong to them."""
        return asked.conditions(self.labels() if asked.label else {}, "text" in self.columns)

    def _query(
        self, where: tuple[list[str], list[object]], first: int, last: int, place: Place, most: int, backwards: bool
    ) -> list[dict[str, Any]]:
        conditions, values = where
        files = self.files[first:last]
        numbers = {str(path): first + number for number, path in enumerate(files)}
        if first <= place.part < last:
            edge = literal(self.files[place.part])
            sign = "<" if backwards else ">="
            conditions = [*conditions, f"(filename <> {edge} OR file_row_number {sign} {place.row})"]
        names = ", ".join(map(name_of, self.light))
        order = " ORDER BY filename DESC, file_row_number DESC" if backwards else ""
        table = scan(files, "filename = true", "file_row_number = true")
        query = f"SELECT filename, file_row_number, {names} FROM {table}{_sql(conditions)}{order} LIMIT {most}"
        rows = self.ask(query, values)
        return [
            {"place": Place(numbers[path], row), **dict(zip(self.light, rest, strict=True))}
            for path, row, *rest in rows
        ]

    @cached_property
    def light(self) -> list[str]:
        """The columns that a list shows; texts and lists are left out."""
        shown = ("id", "source", "url", "title", "language", "date", "stage", "reason", "value", "limit", "survivor")
        return [name for name, number in self.columns.items() if name in shown or number]

    def ask(self, query: str, values: Sequence[object] = (), seconds: float = HARD_SECONDS) -> list[tuple[Any, ...]]:
        """The rows of a query. Raises UserError where it takes too long, DamageError where a file cannot be read."""
        import duckdb

        with self.database.cursor() as cursor, _until(cursor, seconds):
            try:
                return list(cursor.execute(query, list(values)).fetchall())
            except duckdb.InterruptException as error:
                raise Slow(f"this takes longer than {seconds:g} seconds") from error
            except duckdb.OutOfMemoryException as error:
                raise UserError(f"this takes more memory than browse may have: {error}") from error
            except duckdb.Error as error:
                raise damage(self.folder, error) from error

    def count(self, asked: Filter, seconds: float) -> int | None:
        """How many rows fit; None where counting takes longer."""
        conditions, values = self._where(asked)
        if not conditions:
            return self.total
        try:
            ((number,),) = self.ask(f"SELECT count(*) FROM {scan(self.files)}{_sql(conditions)}", values, seconds)
        except Slow:
            return None
        return int(number)

    def sample(self, asked: Filter) -> list[Place]:
        """The places of the filter's sample: the least keyed hashes of ids, of all rows or of each stratum, in order.

        The hash is MD5, which the database computes beside the filter. Labels that are given later change nothing.
        """
        with self._lock:
            if asked not in self._samples:
                if len(self._samples) > 20:
                    self._samples.pop(next(iter(self._samples)))
                self._samples[asked] = self._drawn(asked)
            return self._samples[asked]

    def _drawn(self, asked: Filter) -> list[Place]:
        conditions, values = self._where(asked)
        table = scan(self.files, "filename = true", "file_row_number = true")
        key = f"md5({literal(KEY)} || hex(id))"
        strata = f" GROUP BY {name_of(asked.by)}" if asked.by else ""
        query = (
            f"SELECT unnest(min_by((filename, file_row_number, {key}), {key}, {asked.sample})) "
            f"FROM {table}{_sql(conditions)}{strata}"
        )
        drawn = [tuple(row.values()) if isinstance(row, dict) else row for (row,) in self.ask(query, values)]
        drawn.sort(key=lambda row: (row[2], row[0], row[1]))
        numbers = {str(path): number for number, path in enumerate(self.files)}
        return [Place(numbers[path], row) for path, row, _ in drawn]

    def at(self, places: Sequence[Place]) -> list[dict[str, Any]]:
        """The rows at these places, in their order."""
        found = self._at(places, ", ".join(map(name_of, self.light)))
        return [
            {"place": place, **dict(zip(self.light, found[place], strict=True))} for place in places if place in found
        ]

    def _at(self, places: Sequence[Place], columns: str) -> dict[Place, list[Any]]:
        found = {}
        for part in sorted({place.part for place in places}):
            rows = ", ".join(str(place.row) for place in places if place.part == part)
            query = (
                f"SELECT file_row_number, {columns} FROM {scan([self.file(part)], 'file_row_number = true')} "
                f"WHERE file_row_number IN ({rows})"
            )
            found.update({Place(part, row): rest for row, *rest in self.ask(query)})
        return found

    def file(self, part: int) -> Path:
        """The file of this number. Raises RecipeError where there is none."""
        if not 0 <= part < len(self.files):
            raise RecipeError(f"there is no file {part} in this table; it has {len(self.files)}")
        return self.files[part]

    def snippets(self, places: Sequence[Place], search: str) -> dict[Place, str]:
        """The beginning of each text, or what is around the first hit of a search."""
        if "text" not in self.columns:
            return {}
        needle = search.lower()
        start = f"greatest(1, instr(lower(text), {literal(needle)}) - {SNIPPET // 3})" if needle else "1"
        found = self._at(places, f"substr(text, {start}, {SNIPPET})")
        return {place: text or "" for place, (text,) in found.items()}

    def whole(self, place: Place) -> dict[str, Any]:
        """The row with all its columns, ids as bytes. Raises RecipeError where there is none."""
        path = self.file(place.part)
        if place.row >= self.counts[place.part]:
            raise RecipeError(f"{path.name} has no row {place.row}; it has {self.counts[place.part]}")
        try:
            with pq.ParquetFile(path) as file:
                row = place.row
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if row < rows:
                        for batch in file.iter_batches(256, row_groups=[group]):
                            if row < batch.num_rows:
                                return dict(batch.slice(row, 1).to_pylist()[0])
                            row -= batch.num_rows
                    row -= rows
        except (OSError, ValueError) as error:
            raise damage(self.folder, error) from error
        raise RecipeError(f"{path.name} has no row {place.row}")

    def find_id(self, document: bytes) -> Place | None:
        """Where the row of an id is, the first one."""
        table = scan(self.files, "filename = true", "file_row_number = true")
        rows = self.ask(f"SELECT filename, file_row_number FROM {table} WHERE id = ? LIMIT 1", [document])
        return Place(self.files.index(Path(rows[0][0])), rows[0][1]) if rows else None


def _sql(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


class Slow(UserError):
    """A query that took too long."""


@contextmanager
def _until(cursor: Any, seconds: float) -> Iterator[None]:
    """Interrupts a cursor's query when the time is up."""
    timer = threading.Timer(seconds, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
