"""What is known of one row of a run: its columns for people, its duplicates, its copies in shards, its tokens."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import accounts
from pipeline.errors import RecipeError, UserError
from pipeline.look.browse.again import Record, Segment, compared, record_again, tokens_of
from pipeline.look.browse.filters import TABLES
from pipeline.look.browse.rows import Place, Rows
from pipeline.look.database import Shelf, name_of, opened
from pipeline.look.labels import Label
from pipeline.look.labels import read as read_labels
from pipeline.look.runfolder import RunFolder, origin_text, scores

if TYPE_CHECKING:
    import duckdb

NUMBERS = (
    *(sign + kind for sign in ("", "U") for kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")),
    "FLOAT",
    "DOUBLE",
)
MEMORY = "400MB"
MOST_DUPLICATES = 50
KEPT = 24
"""Records that are remembered."""


@dataclass
class Library:
    """A folder that is browsed."""

    folder: Path
    shelf: Shelf
    database: duckdb.DuckDBPyConnection
    tables: dict[str, Rows]
    """Of TABLES those that are there."""
    run: RunFolder | None
    """None of a published corpus."""
    _kept: OrderedDict[Hashable, Record] = field(default_factory=OrderedDict)
    _crawl: threading.Lock = field(default_factory=threading.Lock)
    """Held by whom puts a record through the stages, which are not made for several threads."""
    _model_lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, folder: Path) -> Library:
        """Opens a folder. Raises UserError where there is nothing to browse."""
        shelf = Shelf.of(folder)
        if not any(shelf.files.get(name) for name in TABLES):
            why = "; ".join(shelf.missing[name] for name in TABLES if name in shelf.missing)
            raise UserError(f"there is nothing to browse: {why or f'{folder} holds no documents'}")
        database = opened(shelf, memory=MEMORY)
        run = RunFolder(shelf.folder) if (shelf.folder / "ledger").exists() else None
        library = cls(shelf.folder, shelf, database, {}, run)
        for name in TABLES:
            if shelf.files.get(name):
                kinds = {row[0]: row[1] in NUMBERS for row in database.execute(f"DESCRIBE {name}").fetchall()}
                library.tables[name] = Rows(shelf.folder, database, shelf.files[name], kinds, library.labels)
        return library

    def prepare(self) -> None:
        """Reads what every page needs, so that the first one does not wait for it. Raises DamageError."""
        _ = [table.counts for table in self.tables.values()], self.choices

    def table(self, name: str) -> Rows:
        """Raises RecipeError where the folder has no such table."""
        if name not in self.tables:
            raise RecipeError(self.shelf.missing.get(name, f"there is no table {name}: the run has no such rows"))
        return self.tables[name]

    def labels(self) -> dict[str, Label]:
        """The labels as they stand now."""
        return read_labels(self.folder)

    @cached_property
    def columns(self) -> dict[str, dict[str, bool]]:
        """Columns of each table, and whether they are numeric."""
        return {name: table.columns for name, table in self.tables.items()}

    @cached_property
    def choices(self) -> dict[str, dict[str, list[tuple[str, int]]]]:
        """By table and column, the values that a user may choose, with how many rows have them, most first."""
        found: dict[str, dict[str, list[tuple[str, int]]]] = {}
        for name, table in self.tables.items():
            for column in ("source", "language", "reason"):
                if column in table.columns:
                    known = self._known(name, column)
                    query = f"SELECT coalesce({column}, 'unknown'), count(*) FROM {name} GROUP BY 1 ORDER BY 2 DESC, 1"
                    found.setdefault(name, {})[column] = known or [(str(a), b) for a, b in table.ask(query)[:300]]
        return found

    def _known(self, table: str, column: str) -> list[tuple[str, int]]:
        """Counts that the ledger has."""
        if self.run is None:
            return []
        counts: dict[str, int] = {}
        if table == "documents" and column in ("source", "language"):
            for row in self.run.of("documents"):
                for value, (documents, _) in row.body[f"{column}s"].items():
                    counts[value] = counts.get(value, 0) + documents
        elif table == "dropped" and column == "reason":
            for step in accounts.funnel(self.run.ledger):
                for value, number in step.dropped.items():
                    counts[value] = counts.get(value, 0) + number
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def text(self, table: str, row: Mapping[str, Any]) -> str:
        """The text of a row: that of the documents, or of its record once more. Raises as `record_again` does."""
        if "text" in row:
            return row["text"] or ""
        text = self.record(table, row).text
        if text is None:
            raise UserError("there is no text: the record was dropped before one was made")
        return text

    def record(self, table: str, row: Mapping[str, Any]) -> Record:
        """Its record once more. Raises UserError where it cannot be had, DamageError where it is another one."""
        if self.run is None:
            raise UserError("a published corpus does not know its crawl; the folder of its run does")
        key = (row["id"], tuple((row["origin"] or {}).values()))
        with self._crawl:
            if key not in self._kept:
                self._kept[key] = record_again(self.run, row)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    @cached_property
    def _model(self) -> Any:
        from pipeline.look.reextract import model_of

        if self.run is None:
            raise UserError("a published corpus is browsed without its tokenizer")
        return model_of(self.run)

    def tokens(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The tokens of its text. Raises UserError where there is no tokenizer or no text."""
        text = self.text(table, row)
        with self._model_lock:
            return tokens_of(self._model, text)

    def duplicates(self, document: bytes) -> dict[str, Any]:
        """Whom it lost to, and who lost to it."""
        if not self.shelf.files.get("duplicates"):
            return {"lost": [], "won": [], "more": 0}
        names = ("loser", "survivor", "reason", "similarity", "cluster_size", "loser_url", "survivor_url")
        any_table = next(iter(self.tables.values()))
        columns = ", ".join(map(name_of, names))
        most = MOST_DUPLICATES + 1

        def rows(column: str) -> list[dict[str, Any]]:
            query = f"SELECT {columns} FROM duplicates WHERE {column} = ? ORDER BY similarity, loser LIMIT {most}"
            return [dict(zip(names, row, strict=True)) for row in any_table.ask(query, [document.hex()])]

        won = rows("survivor")
        return {"lost": rows("loser"), "won": won[:MOST_DUPLICATES], "more": len(won) > MOST_DUPLICATES}

    def copies(self, document: bytes) -> list[dict[str, Any]]:
        """Where it stands in the shards."""
        if not self.shelf.files.get("shards"):
            return []
        names = ("split", "shard", "copy", "token_start", "token_end")
        query = f"SELECT {', '.join(names)} FROM shards WHERE id = ? ORDER BY split, shard, token_start LIMIT 100"
        rows = next(iter(self.tables.values())).ask(query, [document.hex()])
        return [dict(zip(names, row, strict=True)) for row in rows]

    def located(self, document: bytes) -> tuple[str, Place]:
        """The table and place of an id. Raises RecipeError where no row has it."""
        for name, table in self.tables.items():
            place = table.find_id(document)
            if place is not None:
                return name, place
        raise RecipeError(f"no document and no dropped record has the id {document.hex()}")

    def difference(self, one: bytes, other: bytes) -> list[Segment]:
        """What two documents share, and what each has alone."""
        texts = []
        for document in (one, other):
            name, place = self.located(document)
            texts.append(self.text(name, self.table(name).whole(place)))
        return compared(*texts)


def facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The columns of a row for people, in their order, text and lists aside."""
    shown: list[tuple[str, str]] = []
    for name in ("url", "source", "language", "date", "canonical_url", "published"):
        if row.get(name) is not None:
            shown.append((name, value_text(row[name])))
    shown.append(("origin", origin_text(row.get("origin"))))
    return shown


_NO_SCORES = ("canonical_url", "published", "stage", "reason", "value", "limit", "survivor", "place")


def scores_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stages measured of a row."""
    found = []
    for name, value in [*scores(row).items(), ("characters", row.get("characters"))]:
        if value is not None and name not in _NO_SCORES:
            found.append((name, value_text(value)))
    return found


def value_text(value: Any) -> str:
    """A score for people; of one with fields those that are not 0."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {value_text(one)}" for name, one in value.items() if one) or "-"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix("+00:00").removesuffix(" 00:00:00")
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
