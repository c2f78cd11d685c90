"""Writing a corpus folder: aside, under a hidden name, and renamed when all of it is there."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.aside import sync
from pipeline.corpora.described import stems
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.failures import refusal
from pipeline.look.runfolder import RunFolder
from pipeline.parts import PartWriter, read_batches
from pipeline.publish import NAME, manifest_bytes
from pipeline.shards import Corpus, Shard, ShardWriter, corpus_bytes, file_sha256
from pipeline.token_parts import blocks, gathered

Tokens = npt.NDArray[Any]
ROWS = 16_384
"""Documents that are taken at a time."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when the block ends well, and is removed when it does not; when the process
    is killed, by the next one that makes `out`.

    Raises RecipeError where `out` is there already and not empty, UserError where the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError(f"--out {out} is there already; give a new folder")
    aside = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    held: int | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear_killed(out)
        aside.mkdir()
        held = _hold(aside)
        yield aside
        for folder, _, names in os.walk(aside):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        with suppress(FileNotFoundError):
            out.rmdir()
        os.rename(aside, out)
        sync(out.parent)
    except OSError as error:
        raise UserError(f"{refusal(error)} {out} was not made; what was read is as it was.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if held is not None:
            os.close(held)


def _clear_killed(out: Path) -> None:
    """Removes what processes left that were killed while they made this folder."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 32}"):
        held = _hold(left)
        if held is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)


def _hold(folder: Path) -> int | None:
    """A lock on a folder, which ends with this process; None where another holds it, or the disk knows no locks."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def put(path: Path, target: Path) -> None:
    """Has a file lie under another name too: by a link where both are on one disk, else by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def put_folder(run: RunFolder, name: str, folder: Path) -> None:
    """All files in a part folder of a run or corpus."""
    for path in run.parts(name):
        put(path, folder / name / path.name)


def put_shard(shard: Shard, target: Path) -> dict[str, Any]:
    """A shard as it is under another stem, and what `corpus.json` says of it (without its stem)."""
    for ending in shard.files:
        put(shard.path(ending), target.with_name(target.name + ending))
    return {"documents": shard.documents, "tokens": shard.tokens, "files": shard.files}


Keep = npt.NDArray[np.bool_] | None
"""Which rows of a table stay; None where all do."""


def put_kept(kept: Sequence[tuple[Corpus, Shard, Keep]], folder: Path) -> list[dict[str, Any]]:
    """The shards of a split with the documents that stay, numbered anew, as `corpus.json` lists them. One that keeps
    all its documents stays as it is, to the byte."""
    names = stems([(shard.split, shard.group) for _, shard, _ in kept])
    made = []
    for (corpus, shard, keep), stem in zip(kept, names, strict=True):
        if keep is None:
            facts = put_shard(shard, folder / stem)
        else:
            check_digests(shard)
            table = shard.path(".docs.parquet")
            facts = write_rows(folder / stem, [corpus.tokens(shard)], _kept_rows(table, keep), pq.read_schema(table))
        made.append({"stem": stem} | ({} if shard.group is None else {"group": shard.group}) | facts)
    return made


def check_digests(shard: Shard) -> None:
    """Raises DamageError where the tokens or rows are not what `corpus.json` says: written anew, with digests of their
    own, they would pass for whole ever after."""
    for ending in (".bin", ".docs.parquet"):
        if file_sha256(shard.path(ending)) != shard.files[ending]["sha256"]:
            raise DamageError(
                f"{shard.path(ending)} has other contents than were written; `corpusmill verify` says more"
            )


def _kept_rows(path: Path, keep: npt.NDArray[np.bool_]) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
    rows = 0
    for batch in read_batches(path):
        here = keep[rows : rows + batch.num_rows]
        rows += batch.num_rows
        kept = pa.Table.from_batches([batch]).filter(pa.array(here))
        yield np.zeros(kept.num_rows, np.int64), kept


def put_table(path: Path, target: Path, keep: Keep) -> list[tuple[str, int]]:
    """A table of documents with the rows that stay, where any does; source and characters of each one that does not."""
    lost: list[tuple[str, int]] = []
    if keep is None:
        put(path, target)
        return lost
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with PartWriter(target, pq.read_schema(path)) as out:
        for batch in read_batches(path):
            here = pa.array(keep[rows : rows + batch.num_rows])
            rows += batch.num_rows
            out.write(batch.filter(here))
            gone = batch.filter(pc.invert(here))
            sizes = pc.fill_null(pc.utf8_length(gone.column("text")), 0).to_pylist()
            lost += zip(gone.column("source").to_pylist(), sizes, strict=True)
    if not keep.any():
        target.unlink()
    return lost


def write_rows(
    stem: Path,
    tokens: Sequence[Tokens],
    pieces: Iterable[tuple[npt.NDArray[np.int64], pa.Table]],
    schema: pa.Schema,
) -> dict[str, Any]:
    """Writes a shard of documents of others, some at a time: what `corpus.json` says of it (without its stem).

    Each piece: which of the `tokens` each document is in, and the rows, whose `token_start` and `token_end` say where.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    plain = pa.schema([field for field in schema.remove_metadata() if field.name not in ("token_start", "token_end")])
    with ShardWriter(stem, tokens[0].dtype, plain) as out:
        for source, rows in pieces:
            start = rows.column("token_start").to_numpy()
            length = rows.column("token_end").to_numpy() - start
            for here in blocks(length):
                taken = rows.slice(here.start, here.stop - here.start).select(plain.names)
                data = gathered(tokens.__getitem__, source[here], start[here], length[here], tokens[0].dtype)
                out.append(data, length[here], taken)
        return out.close()


def finish(folder: Path, meta: dict[str, Any]) -> None:
    """Writes `corpus.json` and, over all files in the folder, `published.json`, by which `verify` knows each byte."""
    data = corpus_bytes(meta)
    (folder / "corpus.json").write_bytes(data)
    known = {
        shard["stem"] + ending: facts
        for split in meta["splits"].values()
        for shard in split["shards"]
        for ending, facts in shard["files"].items()
    }
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = known.get(name) or {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / NAME).write_bytes(manifest_bytes(meta["name"], files))


def write_json(path: Path, value: Any) -> None:
    """A JSON file as people read it."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
