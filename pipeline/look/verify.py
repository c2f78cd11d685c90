"""`corpusmill verify`: reads everything that a run committed, and says what is not as it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import accounts
from pipeline.errors import DamageError, LockedError, UserError
from pipeline.ledger import PART_FOLDERS, Ledger, Row, file_digest
from pipeline.lock import FolderLock
from pipeline.shards import FORMAT, FORMAT_VERSION, Corpus, Shard, file_sha256, read_index
from pipeline.tokenizers import Options, open_file

CHUNK = 4 << 20
"""Tokens looked at at a time."""


@dataclass(frozen=True)
class Damage:
    """A file that does not hold what it should, and what mends it."""

    file: str
    reason: str
    mended_by: str = "the next run"


@dataclass
class Report:
    """What was checked, and what was found."""

    complete: bool
    """Whether the run is; where it is not, only what is there was judged."""
    rows: int = 0
    parts: int = 0
    bytes: int = 0
    removed: int = 0
    """Parts that `corpusmill clean` took away."""
    shards: int = 0
    documents: int = 0
    tokens: int = 0
    identities: bool = False
    """Whether the two identities were judged."""
    damage: list[Damage] = field(default_factory=list)
    marked: bool = False
    """Whether damaged parts were marked for the next run, also where they look untouched."""

    def add(self, file: Path | str, reason: str, mended_by: str | None = None) -> None:
        """Notes damage; of each file what was found first, from which the rest mostly follows."""
        if any(damage.file == str(file) for damage in self.damage):
            return
        self.damage.append(Damage(str(file), reason, *([mended_by] if mended_by else [])))


def verify(folder: Path) -> Report:
    """Checks a run folder from end to end, and marks damaged parts where the folder can be written to.

    Raises UserError where there is no run, LockedError where one is at work in it.
    """
    ledger = Ledger(folder)
    ledger.head()
    lock = _lock(ledger)
    try:
        report = Report(complete=ledger.complete() is not None)
        rows = list(_rows(ledger, report))
        broken = _check_parts(ledger, rows, report)
        _check_unclaimed(ledger, rows, report)
        _check_own_files(ledger, report)
        if not any("shards" in ledger.removed(row) for row in rows if row.phase == "shard"):
            _check_corpus(ledger, rows, report)
        _check_tokenizer(ledger, rows, report)
        _check_identities(ledger, report)
        if lock is not None:
            report.marked = _mark(ledger, broken)
    finally:
        if lock is not None:
            lock.release()
    return report


def _mark(ledger: Ledger, broken: list[tuple[Row, list[str]]]) -> bool:
    try:
        for row, paths in broken:
            ledger.distrust(row, paths)
    except OSError:
        return False
    return bool(broken)


def _lock(ledger: Ledger) -> FolderLock | None:
    """The folder's lock, or None where nothing may be written there: then nothing is marked either."""
    if not all(os.access(place, os.W_OK | os.X_OK) for place in (ledger.folder, ledger.scratch)):
        return None
    try:
        return FolderLock(ledger.folder)
    except LockedError as error:
        raise LockedError(str(error).partition(" Wait for")[0] + " Verify it when that has ended.") from error
    except OSError:
        return None


def _rows(ledger: Ledger, report: Report) -> Iterator[Row]:
    """All rows that are whole."""
    for phase in sorted(path.name for path in (ledger.folder / "rows").glob("*")):
        for key in ledger.keys(phase):
            report.rows += 1
            try:
                row = ledger.read_row(phase, key)
            except DamageError as error:
                report.add(ledger.row_path(phase, key).relative_to(ledger.out), str(error.__cause__ or error))
                continue
            except OSError as error:
                report.add(
                    ledger.row_path(phase, key).relative_to(ledger.out), f"cannot be read: {error.strerror}", "you"
                )
                continue
            if row is not None:
                yield row


def _check_parts(ledger: Ledger, rows: list[Row], report: Report) -> list[tuple[Row, list[str]]]:
    """Reads every part in full; returns the rows with damaged parts."""
    broken = []
    for row in rows:
        gone = ledger.removed(row)
        wrong = []
        for part in row.parts:
            if part.path.split("/")[0] in gone and not (ledger.out / part.path).exists():
                report.removed += 1
                continue
            report.parts += 1
            report.bytes += part.bytes
            try:
                problem = ledger.part_problem(part)
            except OSError as error:
                report.add(part.path, f"cannot be read: {error.strerror}", "you, then run again")
                continue
            if problem is not None:
                report.add(part.path, problem)
                wrong.append(part.path)
        if wrong:
            broken.append((row, wrong))
    return broken


def _check_unclaimed(ledger: Ledger, rows: list[Row], report: Report) -> None:
    claimed = {part.path for row in rows for part in row.parts}
    for name in PART_FOLDERS:
        for path in sorted((ledger.out / name).rglob("*")):
            inside = path.relative_to(ledger.out)
            if path.is_file() and str(inside) not in claimed and "plans" not in inside.parts:
                report.add(inside, "no manifest row claims it", "the next run")


def _check_own_files(ledger: Ledger, report: Report) -> None:
    for name, digest in (ledger.complete() or {}).items():
        path = ledger.out / name
        if not path.exists():
            report.add(name, "is missing")
        elif file_digest(path) != digest:
            report.add(name, "has other contents than the finished run left")


def _check_corpus(ledger: Ledger, rows: list[Row], report: Report) -> None:
    """`corpus.json` against the shards and against the ledger."""
    path = ledger.out / "corpus.json"
    if not path.exists():
        return
    try:
        corpus = Corpus(ledger.out, json.loads(path.read_text("utf-8")))
        if (corpus.meta["format"], corpus.meta["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"it is no {FORMAT} of version {FORMAT_VERSION}")
        shards = [shard for split in corpus.splits for shard in corpus.shards(split)]
        facts = (corpus.dtype, corpus.vocabulary, corpus.boundary, corpus.special)
    except (ValueError, KeyError, TypeError) as error:
        report.add("corpus.json", f"is not readable: {error}")
        return
    for shard in shards:
        report.shards += 1
        report.documents += shard.documents
        report.tokens += shard.tokens
        for file, reason in _shard_problems(corpus, shard):
            report.add(file.relative_to(ledger.out), reason)
    said = {shard.name: (shard.split, shard.documents, shard.tokens, shard.files) for shard in shards}
    committed = {
        Path(row.body["stem"]).name: tuple(row.body[name] for name in ("split", "documents", "tokens", "files"))
        for row in rows
        if row.phase == "shard"
    }
    model = next((row.body for row in rows if row.phase == "tokenizer"), None)
    if model is not None and (facts[1], facts[3]) != (model["vocabulary"], model["special"]):
        report.add("corpus.json", "names another vocabulary than the tokenizer's row")
    if any(damage.file.startswith("ledger/rows/shard") for damage in report.damage):
        return
    for name in sorted(said.keys() | committed.keys()):
        if said.get(name) != committed.get(name):
            report.add("corpus.json", f"does not say of {name} what its manifest row says")


def _shard_problems(corpus: Corpus, shard: Shard) -> Iterator[tuple[Path, str]]:
    """(file, what is wrong) for one shard."""
    whole = True
    for ending, facts in shard.files.items():
        path = shard.path(ending)
        size = path.stat().st_size if path.exists() else None
        if size != facts["bytes"]:
            found = "is missing" if size is None else f"holds {size} bytes"
            yield path, f"{found}, corpus.json says {facts['bytes']} bytes"
            whole = False
        elif file_sha256(path) != facts["sha256"]:
            yield path, "its SHA-256 is not the one in corpus.json"
            whole = False
    if not whole:
        return
    try:
        dtype, lengths = read_index(shard.path(".idx"))
    except DamageError as error:
        yield shard.path(".idx"), str(error)
        return
    ends = np.cumsum(lengths, dtype=np.int64)
    if dtype != corpus.dtype or len(lengths) != shard.documents or int(lengths.sum(dtype=np.int64)) != shard.tokens:
        yield shard.path(".idx"), "its token type, documents or tokens are not those of corpus.json"
        return
    if shard.tokens * corpus.dtype.itemsize != shard.files[".bin"]["bytes"]:
        yield shard.path(".bin"), "its size is not its number of tokens × item size"
        return
    yield from ((shard.path(".bin"), reason) for reason in _token_problems(corpus, shard, ends))
    yield from ((shard.path(".docs.parquet"), reason) for reason in _table_problems(shard, ends))


def _token_problems(corpus: Corpus, shard: Shard, ends: np.ndarray[Any, Any]) -> Iterator[str]:
    tokens = corpus.tokens(shard)
    for start in range(0, len(tokens), CHUNK):
        chunk = tokens[start : start + CHUNK]
        if chunk.max() >= corpus.vocabulary or chunk.min() < 0:
            yield f"a token from {start} on is no id below the vocabulary of {corpus.vocabulary}"
            return
    last = corpus.boundary == "eot-last"
    edges = ends - 1 if last else np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    wrong = np.flatnonzero(tokens[edges] != corpus.special["eot" if last else "bos"])
    if len(wrong):
        yield f"document {wrong[0]} does not {'end' if last else 'begin'} with the boundary token"


def _table_problems(shard: Shard, ends: np.ndarray[Any, Any]) -> Iterator[str]:
    try:
        table = pq.read_table(shard.path(".docs.parquet"), columns=["token_start", "token_end"])
    except (pa.ArrowException, OSError) as error:
        yield f"is no readable table: {error}"
        return
    if table.num_rows != len(ends):
        yield f"has {table.num_rows} rows for {len(ends)} documents"
        return
    starts = pa.array(np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)])
    for name, right in (("token_start", starts), ("token_end", pa.array(ends))):
        if len(ends) and not pc.all(pc.equal(table.column(name), right)).as_py():
            yield f"{name} does not follow from the lengths in the index"


def _check_tokenizer(ledger: Ledger, rows: list[Row], report: Report) -> None:
    for row in rows:
        if row.phase != "tokenizer" or "tokenizer" in ledger.removed(row):
            continue
        path = row.body["file"]
        if any(damage.file == path for damage in report.damage):
            continue
        try:
            digest = open_file(ledger.out / path, Options(**row.body["options"])).digest
        except UserError as error:
            report.add(path, str(error))
            continue
        if digest != row.body["digest"]:
            report.add(path, "is not the tokenizer that the ledger names")


def _check_identities(ledger: Ledger, report: Report) -> None:
    """The books, where nothing that they are counted from is damaged."""
    spoiled = ("documents/", "dropped/", "ledger/rows/clean", "ledger/rows/documents", "ledger/rows/losers")
    if not report.complete or any(damage.file.startswith(spoiled) for damage in report.damage):
        return
    report.identities = True
    for problem in accounts.identity_problems(ledger):
        report.add("ledger", f"the books do not balance: {problem}", "nobody: this is a fault of corpusmill")
