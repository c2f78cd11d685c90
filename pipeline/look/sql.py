"""`corpusmill sql`: a query over a run, and its result as a table, CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.look.database import VIEWS, Shelf, damage, opened
from pipeline.look.runfolder import one_line, printable

if TYPE_CHECKING:
    import duckdb

_EXPLAIN = re.compile(r"explain\s*(analyze\b|\([^)]*\))?", re.IGNORECASE)
_QUERY = re.compile(r"[\s(]*(select|from|with|pivot|pivot_wider|unpivot|values)\b", re.IGNORECASE)
"""How a query begins, which has a PIVOT in it: DuckDB calls all statements with one MULTI, COPY too."""
WIDTH = 300
"""Characters of a value that a terminal is shown."""
BATCH = 2_000


@dataclass(frozen=True)
class Asked:
    """A folder as a database, ready for queries."""

    shelf: Shelf
    database: duckdb.DuckDBPyConnection

    @classmethod
    def of(cls, folder: Path, memory: str) -> Asked:
        """Opens a folder. Raises as `database.connect` does, and RecipeError where `memory` is no amount."""
        shelf = Shelf.of(folder)
        if not re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B)", memory, re.IGNORECASE):
            raise RecipeError(f"--memory {memory}: give an amount such as 500MB or 4GB")
        return cls(shelf, opened(shelf, memory=memory))

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        """Names and types of the columns of each view that is there."""
        views = [view for view in VIEWS if view == "labels" or view in self.shelf.files]
        with self.database.cursor() as other:  # a result that is read owns its connection
            return {
                view: [(name, kind) for name, kind, *_ in other.execute(f"DESCRIBE {view}").fetchall()]
                for view in views
            }

    def check(self, query: str) -> None:
        """Raises RecipeError where this is not one query that only reads."""
        import duckdb

        try:
            statements = self.database.extract_statements(query)
            if len(statements) != 1:
                raise RecipeError(f"give one query, not {len(statements)}" if statements else "the query is empty")
            kind, text = statements[0].type.name, statements[0].query
            if kind == "EXPLAIN":  # EXPLAIN ANALYZE does what it explains, and the files of the views can be written
                self.check(_EXPLAIN.sub("", text, count=1))
            elif kind != "SELECT" and not (kind == "MULTI" and _QUERY.match(text)):
                kind = text.split(maxsplit=1)[0].upper() if kind == "MULTI" else kind
                raise RecipeError(f"{kind} is refused: a run is only read here. Queries begin with SELECT or FROM.")
        except duckdb.Error as error:
            raise self.explained(error) from error

    def explained(self, error: Exception) -> UserError:
        """What went wrong, with the nearest name that there is."""
        import duckdb

        text = str(error).strip()
        first = text.splitlines()[0]
        column = re.search(r'(?:column|Column with name|named?) "?([^"\s]+)"? (?:not found|does not)', first)
        table = re.search(r"Table with name (\S+) does not exist", first)
        columns = self.columns()
        if table:
            name = table[1].strip('"')
            why = self.shelf.missing.get(name)
            return RecipeError(f"there is no view {name}: {why}" if why else _unknown("view", name, columns))
        if isinstance(error, duckdb.BinderException) and column:
            asked = column[1].rpartition(".")[2]
            return RecipeError(_unknown("column", asked, {name for rows in columns.values() for name, _ in rows}))
        if isinstance(error, duckdb.OutOfMemoryException):
            return UserError(f"the query needs more memory than it may have; give --memory 4GB. {first}")
        if isinstance(error, duckdb.PermissionException):
            return RecipeError(f"a query reads the views and nothing else, and writes nothing. {first}")
        if isinstance(error, duckdb.IOException | duckdb.InvalidInputException | duckdb.SerializationException):
            return damage(self.shelf.folder, error)
        if isinstance(error, duckdb.InterruptException):
            return UserError("the query was interrupted")
        return RecipeError(text)

    def run(self, query: str) -> tuple[list[str], Iterator[list[Any]]]:
        """The names of a query's columns, and its rows, which are computed while they are read.

        Raises RecipeError where it cannot be answered, DamageError where a file cannot be read.
        """
        import duckdb

        self.check(query)
        try:
            self.database.execute(query)
        except duckdb.Error as error:
            raise self.explained(error) from error
        return [column[0] for column in self.database.description or []], self._rows()

    def _rows(self) -> Iterator[list[Any]]:
        import duckdb

        try:
            while rows := self.database.fetchmany(BATCH):
                yield from map(list, rows)
        except duckdb.Error as error:
            raise self.explained(error) from error


def _unknown(what: str, name: str, known: Any) -> str:
    return f"there is no {what} '{name}'.{nearest(name, known) or ' Without a query, `corpusmill sql` lists them.'}"


def print_views(asked: Asked, console: Console) -> None:
    """The views with their columns, and why others are not there."""
    table = Table("view", "rows", "columns", title=f"Views over {asked.shelf.folder}", title_justify="left")
    for view, columns in asked.columns().items():
        ((rows,),) = asked.database.execute(f"SELECT count(*) FROM {view}").fetchall()
        names = ", ".join(f"{one_line(name)} {_short(kind)}" for name, kind in columns)
        table.add_row(view, f"{rows:,}", names)
    console.print(table)
    console.print("host(url) gives the host of a URL. Ids are text, 32 hex digits.", markup=False, highlight=False)
    for why in asked.shelf.missing.values():
        console.print(f"Not there: {why}.", markup=False, highlight=False)


def _short(kind: str) -> str:
    names = {"VARCHAR": "text", "TIMESTAMP WITH TIME ZONE": "time"}
    return names.get(kind, kind.partition("(")[0].lower())


def print_table(asked: Asked, query: str, console: Console, most: int | None) -> None:
    """The rows as a table on a terminal, else a line each with tabs between, the names first."""
    names, rows = asked.run(query)
    names = [one_line(name) for name in names]
    if not console.is_terminal:
        print("\t".join(names))
        for row in itertools.islice(rows, most):
            print("\t".join(_cell(value) for value in row))
        return
    table = Table(*names)
    shown = list(itertools.islice(rows, most))
    for place, column in enumerate(table.columns):
        if shown and all(isinstance(row[place], int | float | Decimal | None) for row in shown):
            column.justify = "right"
    for row in shown:
        cells = [_cell(value) for value in row]
        table.add_row(*(cell if len(cell) <= WIDTH else cell[:WIDTH] + "…" for cell in cells))
    console.print(table, markup=False)
    if next(rows, None) is not None:
        console.print(f"more than these {most} rows; -n 0 shows all", highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(value if isinstance(value, str) else _text(value))


def _text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def print_csv(asked: Asked, query: str, most: int | None) -> None:
    """The rows as CSV (RFC 4180 with line ends of this system), the names first; an empty field is NULL."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    spell = printable if sys.stdout.isatty() else str
    names, rows = asked.run(query)
    writer.writerow(map(spell, names))
    for row in itertools.islice(rows, most):
        writer.writerow(None if value is None else spell(_text(value)) for value in row)


def print_json(asked: Asked, query: str, most: int | None) -> None:
    """The rows as JSON, an object a line."""
    names, rows = asked.run(query)
    for row in itertools.islice(rows, most):
        print(json.dumps(dict(zip(names, map(_plain, row), strict=True)), ensure_ascii=False))


def write_parquet(asked: Asked, query: str, path: Path) -> int:
    """The rows in a Parquet file: how many. A query that fails leaves what was there.

    Raises RecipeError where the file cannot be written or would be part of a run.
    """
    import duckdb

    place = path.resolve()
    if place.is_relative_to(asked.shelf.folder.resolve()):
        raise RecipeError(f"--parquet {path}: give a place outside of the run folder, where files are accounted for")
    asked.check(query)
    special = place.exists() and not place.is_file()  # such as /dev/null
    unfinished = place if special else place.with_name(f"{place.name}.unfinished")
    count = 0
    try:
        with (
            asked.database.sql(query).to_arrow_reader(BATCH) as reader,
            pq.ParquetWriter(unfinished, reader.schema, compression="zstd") as writer,
        ):
            for batch in reader:
                writer.write_batch(batch)
                count += batch.num_rows
        if not special:
            unfinished.replace(place)
    except duckdb.Error as error:
        raise asked.explained(error) from error
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or error
        raise RecipeError(f"--parquet {path} cannot be written: {why}") from error
    finally:
        if not special:
            unfinished.unlink(missing_ok=True)
    return count
