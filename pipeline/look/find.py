"""Looking up records of a run by id or URL: what became of them, and where they are now."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import ids
from pipeline.corpora.folder import corpus_of
from pipeline.errors import RecipeError
from pipeline.look.runfolder import SCORES_NOT, RunFolder
from pipeline.parts import read_batches
from pipeline.store.mirror import fill
from stages.keys import canonical_url

NEAR = 2_000
"""Most URLs of a host that are looked at for the nearest one."""


@dataclass
class Found:
    """Everything that the committed tables say of one id."""

    id: bytes
    documents: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the documents, without text; `part` is the file. One, or none where it was dropped."""
    copies: list[dict[str, Any]] = field(default_factory=list)
    """Its copies in shards: shard, copy, token_start, token_end and the rest of its row."""
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """Its rows among the dropped; with a kept document beside them where a record was read twice."""
    beat: list[dict[str, Any]] = field(default_factory=list)
    """Duplicates that lost to it."""
    waiting: bool = False
    """Whether it passed the stages, and the run has not come to deduplication yet."""

    @property
    def fate(self) -> str:
        """One word: kept, dropped, waiting."""
        return "kept" if self.documents or self.copies else "dropped" if self.dropped else "waiting"


def id_of(run: RunFolder, text: str) -> bytes:
    """The id that `text` (hex digits) is, or is the only one to begin with. Raises RecipeError otherwise."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", text):
        raise RecipeError(f"--doc {text}: an id is 32 hex digits, or the first few of them")
    low, high = (bytes.fromhex(text.ljust(32, digit)) for digit in "0f")
    found: set[bytes] = set()
    for column in _ids(run):
        plain = column.cast(pa.binary())
        inside = pc.and_(pc.greater_equal(plain, low), pc.less_equal(plain, high))
        found.update(plain.filter(inside).to_pylist())
    if not found:
        raise RecipeError(f"--doc {text}: no record of this run has that id.{_nearest_id(run, low)}{_gone(run)}")
    if len(found) > 1:
        some = ", ".join(one.hex() for one in sorted(found)[:5])
        raise RecipeError(f"--doc {text}: {len(found)} ids begin so: {some}{' ...' if len(found) > 5 else ''}")
    return found.pop()


def _tables(run: RunFolder) -> list[Path]:
    """The tables in which every record of the run stands, as far as they are there."""
    paths = [*run.parts("documents"), *run.parts("dropped")]
    if run.removed("documents") or not run.parts("documents"):
        paths += [path for path in run.parts("shards") if path.suffix == ".parquet"]
    if run.ledger.complete() is None:
        paths += run.parts("clean")
    return paths


def _ids(run: RunFolder) -> Iterator[pa.Array]:
    for path in _tables(run):
        for batch in read_batches(path, ["id"]):
            yield batch.column("id")


def _nearest_id(run: RunFolder, wanted: bytes) -> str:
    """The id that begins most like the wanted one."""
    target = np.frombuffer(wanted, np.uint8)
    best, most = b"", 1
    for column in _ids(run):
        rows = ids.matrix(column)
        common = np.cumprod(rows == target, axis=1).sum(axis=1)
        if len(common) and common.max() > most:
            most, best = int(common.max()), rows[int(common.argmax())].tobytes()
    return f" Did you mean {best.hex()}?" if best else ""


def _gone(run: RunFolder) -> str:
    if (run.folder / "removed.json").exists():
        return " (removed.json lists what was taken out of this corpus.)"
    names = [name for name in ("documents", "dropped") if run.removed(name)]
    return f" (`corpusmill clean` took away {' and '.join(names)}, which may have had it.)" if names else ""


def everything(run: RunFolder, document: bytes) -> Found:
    """What all tables say of an id. Row groups that cannot hold it are not read."""
    found = Found(document)
    mine = [("id", "=", document)]
    for path in run.parts("documents"):
        names = [name for name in pq.read_schema(path).names if name != "text"]
        found.documents += [row | {"part": path.name} for row in _rows(path, mine, names)]
    for path in run.parts("dropped"):
        found.dropped += _rows(path, mine)
    for path in run.parts("duplicates"):
        found.beat += _rows(path, [("survivor", "=", document)])
        urls = {row["survivor"]: row["survivor_url"] for row in _rows(path, [("loser", "=", document)])}
        for row in found.dropped:
            if row["survivor"] in urls:
                row["survivor_url"] = urls[row["survivor"]]
    if (run.folder / "corpus.json").exists() and not run.removed("shards"):
        corpus = corpus_of(run)
        tables = (part.path for row in run.of("shard") for part in row.parts if part.path.endswith(".parquet"))
        fill(run.folder, tables)  # of a run at an address, which is asked for all of them at once
        for split in corpus.splits:
            for shard in corpus.shards(split):
                rows = _rows(shard.path(".docs.parquet"), mine)
                found.copies += [row | {"shard": shard.name, "split": split} for row in rows]
    if found.fate == "waiting":
        found.waiting = any(_rows(path, mine, ["id"]) for path in run.parts("clean"))
    return found


def _rows(path: Path, filters: list[tuple[str, str, Any]], columns: list[str] | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns, filters=filters).to_pylist()
    return rows


def by_url(run: RunFolder, url: str) -> list[dict[str, Any]]:
    """Every record of this URL, however it is spelt: `fate`, the row, and `exact`, whether it is spelt the same.

    In the order of the tables. Raises RecipeError where there is none, with the nearest URL of the host.
    """
    wanted = canonical_url(url)
    host = (urlsplit(wanted).hostname or "") if "//" in wanted else ""
    found: list[dict[str, Any]] = []
    near: dict[str, None] = {}
    for path in _tables(run):
        fate = "dropped" if path.parent.name == "dropped" else "kept"
        names = [name for name in pq.read_schema(path).names if name in SCORES_NOT or fate == "dropped"]
        names = [name for name in names if name not in ("text", "title", "n_tokens", "tokens")]
        for batch in read_batches(path, names):
            column = batch.column("url")
            mask = pc.equal(column, url)
            if host.isascii() and host:
                mask = pc.or_(mask, pc.match_substring(column, host, ignore_case=True))
            else:
                mask = pc.is_valid(column)
            for row in batch.filter(pc.fill_null(mask, False)).to_pylist():
                if row["url"] == url or canonical_url(row["url"]) == wanted:
                    found.append(row | {"fate": fate, "exact": row["url"] == url, "part": path.name})
                elif len(near) < NEAR:
                    near[row["url"]] = None
    if not found:
        close = difflib.get_close_matches(url, near, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]}?" if close else f" The run has none of host {host}." if host else ""
        raise RecipeError(f"--url {url}: no record of this run has that URL.{hint}{_gone(run)}")
    return found
