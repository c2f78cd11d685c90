"""Writing a corpus folder: aside, under a hidden name, and renamed when all of it is there."""

from __future__ import annotations

import hashlib
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

from pipeline.corpora.described import stems
from pipeline.errors import RecipeError, UserError
from pipeline.failures import as_user_error
from pipeline.ledger import sync
from pipeline.parts import PartWriter, read_batches
from pipeline.publish import NAME, manifest_bytes
from pipeline.shards import Corpus, Shard, corpus_bytes, file_sha256, index_bytes

Tokens = npt.NDArray[Any]
Pieces = Iterable[tuple[Iterable[Tokens], npt.NDArray[np.int64], pa.RecordBatch]]


@contextmanager
def new_folder(out: Path, option: str = "--out") -> Iterator[Path]:
    """A folder that takes the name `out` when the block ends well, and is removed when it does not.

    Raises RecipeError where `out` is there already and not empty, UserError where the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError(f"{option} {out} is there already; give a new folder")
    aside = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    try:
        aside.mkdir(parents=True)
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
        known = as_user_error(error)
        text = str(known or error).partition(" What is committed stays")[0]
        raise UserError(f"{text} {out} was not made; what was read is as it was.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put(path: Path, target: Path) -> None:
    """Has a file lie under another name too: by a link where both are on one disk, else by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


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
            schema = pq.read_schema(shard.path(".docs.parquet"))
            facts = write_pieces(folder / stem, _kept_pieces(corpus, shard, keep), corpus.dtype, schema)
        made.append({"stem": stem} | ({} if shard.group is None else {"group": shard.group}) | facts)
    return made


def _kept_pieces(
    corpus: Corpus, shard: Shard, keep: npt.NDArray[np.bool_]
) -> Iterator[tuple[list[Tokens], npt.NDArray[np.int64], pa.RecordBatch]]:
    """What stays of a shard: neighbours in one stretch of tokens."""
    tokens = corpus.tokens(shard)
    rows = 0
    for batch in read_batches(shard.path(".docs.parquet")):
        here = keep[rows : rows + batch.num_rows]
        rows += batch.num_rows
        starts, ends = (batch.column(name).to_numpy() for name in ("token_start", "token_end"))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], here.astype(np.int8), [0]])))
        stretches = [tokens[starts[a] : ends[b - 1]] for a, b in edges.reshape(-1, 2).tolist()]
        yield stretches, (ends - starts)[here], batch.filter(pa.array(here))


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


def write_pieces(stem: Path, pieces: Pieces, dtype: np.dtype[Any], schema: pa.Schema) -> dict[str, Any]:
    """Writes a shard by whole batches: what `corpus.json` says of it (without its stem).

    Each piece: stretches of tokens one behind the other, the lengths of the documents in them (tokens, boundary
    token included), and their rows, whose `token_start` and `token_end` are filled in here. `schema` has both.
    """
    paths = {ending: stem.with_name(stem.name + ending) for ending in (".bin", ".idx", ".docs.parquet")}
    stem.parent.mkdir(parents=True, exist_ok=True)
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    position = 0
    digest = hashlib.sha256()
    with paths[".bin"].open("wb") as bin_file, PartWriter(paths[".docs.parquet"], schema) as table:
        for stretches, sizes, batch in pieces:
            for tokens in stretches:
                data = np.ascontiguousarray(tokens, dtype).data
                digest.update(data)
                bin_file.write(data)
            ends = position + np.cumsum(sizes, dtype=np.int64)
            own = {"token_start": pa.array(ends - sizes, pa.int64()), "token_end": pa.array(ends, pa.int64())}
            columns = [own.get(name) for name in schema.names]
            given = [batch.column(n) if c is None else c for n, c in zip(schema.names, columns, strict=True)]
            table.write(pa.RecordBatch.from_arrays(given, schema=schema))
            lengths.append(np.asarray(sizes, np.int64))
            position += int(np.sum(sizes, dtype=np.int64))
    every = np.concatenate(lengths)
    paths[".idx"].write_bytes(index_bytes(every, dtype))
    files = {ending: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for ending, path in paths.items()
             if ending != ".bin"}  # fmt: skip
    files = {".bin": {"bytes": paths[".bin"].stat().st_size, "sha256": digest.hexdigest()}, **files}
    return {"documents": len(every), "tokens": position, "files": files}


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
