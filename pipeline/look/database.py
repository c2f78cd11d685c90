"""A run folder as a database: DuckDB views over the Parquet files that its ledger names.

The views: `documents`, `dropped`, `duplicates`, `measures` (what rules measured of each record), `shards` (the tables
beside the shards, with `split` and `shard`), `labels` (what people said of documents in `corpusmill browse`).
Ids are text, 32 hex digits. `host(url)` is a macro that all queries may use.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.errors import DamageError, UserError
from pipeline.look.extra import look_extra
from pipeline.look.labels import COLUMNS, read
from pipeline.look.runfolder import RunFolder
from pipeline.shards import Corpus
from stages.schema import DROPPED

if TYPE_CHECKING:
    import duckdb

VIEWS = ("documents", "dropped", "duplicates", "measures", "shards", "labels")
MEMORY = "1GB"
THREADS = 2
AUTHORITY = "regexp_extract(url, '^[a-zA-Z][a-zA-Z0-9+.-]*://([^/?#]*)', 1)"
HOST = f"lower(split_part(split_part({AUTHORITY}, '@', -1), ':', 1))"
"""User and port are split off: a pattern that knows them is no longer one that runs in a single pass, and takes three
times as long."""


@dataclass(frozen=True)
class Shelf:
    """The files behind the views of a folder, and why a view is not there."""

    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)
    """By view, in the order of their names; a view without files is empty."""
    splits: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """Split and name of the shard of each table of documents beside the shards."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a view is not there, by view, as a sentence."""

    @classmethod
    def of(cls, folder: Path) -> Shelf:
        """What a run folder's ledger names, or a published folder's `published.json` and `corpus.json`.

        Raises UserError where the folder is neither.
        """
        folder = Path(folder).absolute()
        if any(char in "*?[" for char in str(folder)):  # DuckDB has no way to write them in a path that it may not list
            raise UserError(f"DuckDB takes *, ? and [ in {folder} for a pattern; reach it by a link without them")
        shelf = cls(folder)
        if (folder / "ledger").exists():
            shelf._run(RunFolder(folder))
        elif (folder / "corpus.json").exists() or (folder / "published.json").exists():
            shelf._published()
        else:
            raise UserError(f"{folder} is no run folder and no corpus: it has neither ledger/ nor corpus.json")
        return shelf

    def _run(self, run: RunFolder) -> None:
        again = "running the recipe again brings them back"
        for name in ("documents", "dropped", "duplicates", "measures"):
            if run.removed(name):
                self.missing[name] = f"`corpusmill clean` took the {name} out of {self.folder}; {again}"
            else:
                self.files[name] = run.parts(name)
        if not run.of("documents") and "documents" not in self.missing:
            self.missing["documents"] = f"the run in {self.folder} has not come to its documents yet"
        if run.removed("shards"):
            self.missing["shards"] = f"`corpusmill clean` took the shards out of {self.folder}; {again}"
        else:
            self._shards()

    def _published(self) -> None:
        names: list[str] = []
        path = self.folder / "published.json"
        if path.exists():
            try:
                names = sorted(json.loads(path.read_text("utf-8"))["files"])
            except (ValueError, KeyError, TypeError) as error:
                raise DamageError(f"{path} is damaged: {error!r}") from error
        documents = [self.folder / name for name in names if name.startswith("documents/")]
        if documents:
            self.files["documents"] = documents
        for name in ("documents", "dropped", "duplicates", "measures"):
            if name not in self.files:
                self.missing[name] = f"{self.folder} is a published corpus without {name}; its run folder has them"
        self._shards()

    def _shards(self) -> None:
        if not (self.folder / "corpus.json").exists():
            self.missing["shards"] = f"{self.folder} has no shards: there is no corpus.json"
            return
        corpus = Corpus.open(self.folder)
        for split in corpus.splits:
            for shard in corpus.shards(split):
                self.splits[shard.path(".docs.parquet")] = (split, shard.name)
        self.files["shards"] = list(self.splits)


def connect(folder: str | Path, *, memory: str = MEMORY, threads: int = THREADS) -> duckdb.DuckDBPyConnection:
    """A database in memory with the views of a folder. It reads the files of the views and no others, writes none,
    loads no extension and cannot be told to.

    A view that the folder cannot give (see `Shelf.missing`) is not there. `memory` is DuckDB's limit, such as `1GB`;
    what needs more is spilt into the system's temporary folder. Raises UserError where there is no run, or DuckDB is
    not installed.
    """
    return opened(Shelf.of(Path(folder)), memory=memory, threads=threads)


def opened(shelf: Shelf, *, memory: str = MEMORY, threads: int = THREADS) -> duckdb.DuckDBPyConnection:
    """`connect`, over files that are known."""
    with look_extra("a database over a run"):
        import duckdb
    settings: dict[str, Any] = {
        "memory_limit": memory,
        "threads": str(threads),
        "temp_directory": str(Path(tempfile.gettempdir()) / f"corpusmill-{uuid.uuid4().hex}"),
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    database = duckdb.connect(config=settings)
    paths = ", ".join(literal(path) for files in shelf.files.values() for path in files)
    try:
        database.execute(f"SET allowed_paths = [{paths}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET parquet_metadata_cache = true")
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET lock_configuration = true")
        database.execute(f"CREATE MACRO host(url) AS {HOST}")
        database.execute(f"CREATE VIEW labels AS {labels_view(shelf.folder)}")
        for name, files in shelf.files.items():
            database.execute(f"CREATE VIEW {name} AS {_select(database, shelf, name, files)}")
    except duckdb.Error as error:
        database.close()
        raise damage(shelf.folder, error) from error
    return database


def damage(folder: Path, error: Exception) -> DamageError:
    """What to say where DuckDB cannot read a file of a folder."""
    return DamageError(f"{str(error).splitlines()[0]}; `corpusmill verify {folder}` says more")


def literal(value: object) -> str:
    """A value as SQL text."""
    return "'" + str(value).replace("'", "''") + "'"


def name_of(column: str) -> str:
    """A column's name as SQL text."""
    return '"' + column.replace('"', '""') + '"'


def scan(files: Sequence[Path], *options: str) -> str:
    """The table function that reads these files as one table, columns matched by name."""
    names = ", ".join(literal(path) for path in files)
    return f"read_parquet([{names}], {', '.join(('union_by_name = true', *options))})"


def labels_view(folder: Path) -> str:
    """The query behind `labels`, which holds them as they are now."""
    rows = ", ".join(f"({', '.join(literal(getattr(one, name)) for name in COLUMNS)})" for one in read(folder).values())
    names = ", ".join("reviewer" if name == "by" else name for name in COLUMNS)  # BY is a word of SQL
    if not rows:
        return f"SELECT {', '.join(f'NULL::VARCHAR AS {name}' for name in names.split(', '))} WHERE false"
    return f"SELECT * FROM (VALUES {rows}) AS _labels({names})"


def _select(database: Any, shelf: Shelf, name: str, files: Sequence[Path]) -> str:
    """The query behind a view: ids as text; of shards with the names of split and shard in front."""
    if not files:
        from pipeline.phases.clusters import DUPLICATES  # brings the kernels, which runs that have some do not need

        schema = {"dropped": DROPPED, "duplicates": DUPLICATES}.get(name, pa.schema([pa.field("id", pa.string())]))
        return f"SELECT {', '.join(_nothing(column) for column in schema)} WHERE false"
    table = scan(files, *(["filename = true"] if name == "shards" else []))
    columns = database.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()
    binary = [name_of(row[0]) for row in columns if row[1] == "BLOB"]
    replaced = f" REPLACE ({', '.join(f'lower(hex({one})) AS {one}' for one in binary)})" if binary else ""
    if name != "shards":
        return f"SELECT *{replaced} FROM {table}"
    known = ", ".join(f"({literal(path)}, {literal(a)}, {literal(b)})" for path, (a, b) in shelf.splits.items())
    return (
        f"SELECT _of.split, _of.shard, _rows.* EXCLUDE (filename){replaced} FROM {table} AS _rows "
        f"JOIN (VALUES {known}) AS _of(path, split, shard) ON _rows.filename = _of.path"
    )


def _nothing(column: pa.Field) -> str:
    kinds = {pa.float64(): "DOUBLE", pa.int64(): "BIGINT"}
    if pa.types.is_struct(column.type):
        kind = (
            "STRUCT(" + ", ".join(f"{name_of(one.name)} {kinds.get(one.type, 'VARCHAR')}" for one in column.type) + ")"
        )
    else:
        kind = kinds.get(column.type, "VARCHAR")
    return f"NULL::{kind} AS {name_of(column.name)}"
