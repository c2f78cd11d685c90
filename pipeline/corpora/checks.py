"""What is wrong with the shards of a corpus: every byte is read once, hashed and looked at as it passes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from pipeline import ids
from pipeline.errors import DamageError
from pipeline.parts import read_batches
from pipeline.shards import (
    FORMAT,
    FORMAT_VERSION,
    MIXTURE_FILE,
    MIXTURE_FORMAT,
    MIXTURE_FORMAT_VERSION,
    Corpus,
    Shard,
    corpus_bytes,
    read_index,
)

CHUNK = 1 << 20
"""Tokens looked at at a time."""
ENDINGS = (".bin", ".idx", ".docs.parquet")

Lengths = npt.NDArray[np.int64]


@dataclass
class Checked:
    """What was found in shards."""

    problems: list[tuple[Path, str]] = field(default_factory=list)
    """(file, what is wrong with it), of each shard the first that others follow from."""
    digests: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """SHA-256 and xxHash3 of 128 bits of each file that was read."""
    shards: int = 0
    documents: int = 0
    tokens: int = 0
    inner: int = 0
    """Boundary tokens inside documents: a reader that splits there sees more documents than there are."""


def read_meta(folder: Path) -> Corpus:
    """The corpus that `corpus.json` describes. Raises DamageError where it is damaged, without the file's name."""
    data = (folder / "corpus.json").read_bytes()
    try:
        corpus = Corpus(folder, json.loads(data))
        meta = corpus.meta
        if (meta["format"], meta["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"it is no {FORMAT} of version {FORMAT_VERSION}")
        if data != corpus_bytes(meta):
            raise ValueError("it has other contents than were written: its check is not theirs")
        for split in corpus.splits:
            for shard in corpus.shards(split):
                for ending in ENDINGS:
                    int(shard.files[ending]["bytes"]), str(shard.files[ending]["sha256"])
                if ".." in shard.stem.relative_to(folder).parts:
                    raise ValueError(f"the shard {shard.stem} does not lie in its folder")
        _ = (corpus.dtype, corpus.vocabulary, corpus.boundary, corpus.special)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"is not readable: {error}") from error
    return corpus


def check_corpus(corpus: Corpus) -> Checked:
    """Everything that `corpus.json` says, against the files that it names.

    Memory: a few MB, 24 bytes for each document of the shard at hand, and 8 for each one outside of `train`.
    """
    found = Checked()
    path = corpus.folder / "corpus.json"
    elsewhere: dict[str, npt.NDArray[np.uint64]] = {}
    # The largest split last: of the others the ids are kept.
    for split in sorted(corpus.splits, key=lambda name: (name == "train", name)):
        facts = corpus.meta["splits"][split]
        shards = corpus.shards(split)
        for figure in ("documents", "tokens"):
            if facts[figure] != sum(getattr(shard, figure) for shard in shards):
                found.problems.append((path, f"the {figure} of {split} are not the sum of its shards"))
        if reason := numbering([shard.name for shard in shards]):
            found.problems.append((path, reason))
        heads = [np.zeros(0, np.uint64)]
        for shard in shards:
            known = check_shard(corpus, shard, found)
            for other, theirs in elsewhere.items():
                if both := int(np.isin(known, theirs).sum()):
                    reason = f"{both} of its documents are in the split {other} too"
                    found.problems.append((shard.path(".docs.parquet"), reason))
            if split != "train":
                heads.append(known)
        elsewhere[split] = np.concatenate(heads)
    found.problems += _check_mixture(corpus)
    return found


def check_shard(corpus: Corpus, shard: Shard, found: Checked) -> npt.NDArray[np.uint64]:
    """Notes what is wrong with one shard; where it has no `files`, its digests are not judged.

    Returns the first 8 bytes of the ids of its documents; none where the shard is damaged.
    """
    nothing = np.zeros(0, np.uint64)
    found.shards += 1
    found.documents += shard.documents
    found.tokens += shard.tokens
    problems: list[tuple[Path, str]] = []
    for ending in ENDINGS:
        path = shard.path(ending)
        size = path.stat().st_size if path.is_file() else None
        said = shard.files[ending]["bytes"] if shard.files else size
        if size is None:
            problems.append((path, "is missing"))
        elif size != said:
            problems.append((path, f"holds {size} bytes instead of {said}, which corpus.json says"))
    lengths = None
    if not any(path == shard.path(".idx") for path, _ in problems):
        try:
            dtype, lengths = read_index(shard.path(".idx"))
            total = int(lengths.sum(dtype=np.int64))
            if dtype != corpus.dtype or len(lengths) != shard.documents or total != shard.tokens:
                reason = "its token type, documents or tokens are not those of corpus.json"
                problems.append((shard.path(".idx"), reason))
            elif (lengths < 1).any():
                problems.append((shard.path(".idx"), f"document {int((lengths < 1).argmax())} has no token"))
        except DamageError as error:
            problems.append((shard.path(".idx"), str(error)))
    whole = not problems
    if whole and shard.tokens * corpus.dtype.itemsize != shard.path(".bin").stat().st_size:
        problems.append((shard.path(".bin"), "its size is not its number of tokens × item size"))
        whole = False
    ends = np.cumsum(lengths, dtype=np.int64) if whole and lengths is not None else None
    contents: list[tuple[Path, str]] = []
    for ending in ENDINGS:
        path = shard.path(ending)
        if any(other == path and reason.startswith(("is missing", "holds")) for other, reason in problems):
            continue
        reasons: list[str] = []
        if ending == ".bin":
            found.digests[path] = _read_tokens(corpus, path, ends, reasons, found)
        else:
            found.digests[path] = digests(path)
        if shard.files and found.digests[path][0] != shard.files[ending]["sha256"]:
            problems = [(other, reason) for other, reason in problems if other != path]
            problems.append((path, "has other contents: its SHA-256 is not the one in corpus.json"))
            whole = False
        contents += [(path, reason) for reason in reasons]
    found.problems += problems
    if not whole or ends is None:
        return nothing
    table = shard.path(".docs.parquet")
    try:
        wrong, heads = _check_table(table, ends)
    except DamageError as error:
        wrong, heads = f"is no readable table: {error.__cause__}", nothing
    except (pa.ArrowException, OSError, KeyError) as error:
        wrong, heads = f"is no readable table: {error}", nothing
    found.problems += contents + ([(table, wrong)] if wrong else [])
    return heads


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 and xxHash3 (128 bits) of a file, read once."""
    sha, xx = hashlib.sha256(), xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while data := file.read(4 << 20):
            sha.update(data)
            xx.update(data)
    return sha.hexdigest(), xx.hexdigest()


def _read_tokens(
    corpus: Corpus, path: Path, ends: Lengths | None, reasons: list[str], found: Checked
) -> tuple[str, str]:
    """The digests of a token file; and, where its documents' ends are known, what is wrong with its tokens."""
    sha, xx = hashlib.sha256(), xxhash.xxh3_128()
    last = corpus.boundary == "eot-last"
    edges = None
    if ends is not None:
        edges = ends - 1 if last else np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    edge = corpus.special.get("eot" if last else "bos", -1)
    start = inner = 0
    buffer = bytearray(CHUNK * corpus.dtype.itemsize)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while size := _fill(file, view):
            sha.update(view[:size])
            xx.update(view[:size])
            if edges is None or reasons:
                continue
            tokens = np.frombuffer(buffer, corpus.dtype, size // corpus.dtype.itemsize)
            if tokens.max() >= corpus.vocabulary or tokens.min() < 0:
                place = start + int(((tokens >= corpus.vocabulary) | (tokens < 0)).argmax())
                reasons.append(f"token {place} is no id below the vocabulary of {corpus.vocabulary}")
                continue
            low, high = np.searchsorted(edges, [start, start + len(tokens)])
            right = tokens[edges[low:high] - start] == edge
            if not right.all():
                place = low + int((~right).argmax())
                reasons.append(f"document {place} does not {'end' if last else 'begin'} with the boundary token")
                continue
            inner += int(np.count_nonzero(tokens == edge)) - int(high - low)
            start += len(tokens)
    if not reasons:
        found.inner += inner
    return sha.hexdigest(), xx.hexdigest()


def _fill(file: Any, view: memoryview) -> int:
    """Fills a buffer as far as the file goes."""
    size = 0
    while size < len(view) and (more := file.readinto(view[size:])):
        size += more
    return size


def _check_table(path: Path, ends: Lengths) -> tuple[str | None, npt.NDArray[np.uint64]]:
    """What is wrong with a table of documents that end at these tokens, and the first 8 bytes of their ids."""
    nothing = np.zeros(0, np.uint64)
    columns = ["id", "copy", "token_start", "token_end"]
    seen = [np.zeros(0, _KEY)]
    rows = pq.read_metadata(path).num_rows
    if rows != len(ends):
        return f"has {rows} rows for {len(ends)} documents", nothing
    rows = 0
    for batch in read_batches(path, columns):
        if batch.num_columns < len(columns):
            return f"lacks one of the columns {', '.join(columns)}", nothing
        here = ends[rows : rows + batch.num_rows]
        starts = np.append(ends[rows - 1] if rows else 0, here[:-1])
        for name, right in (("token_start", starts), ("token_end", here)):
            if not pc.all(pc.equal(batch.column(name), pa.array(right)), skip_nulls=False).as_py():
                return f"{name} does not follow from the lengths in the index", nothing
        if batch.column("id").null_count or batch.column("copy").null_count:
            return "has a document without an id or the number of its copy", nothing
        keys = np.empty(batch.num_rows, _KEY)
        keys["high"], keys["low"] = ids.halves(ids.matrix(batch.column("id")))
        keys["copy"] = batch.column("copy").to_numpy(zero_copy_only=False)
        seen.append(keys)
        rows += batch.num_rows
    every = np.concatenate(seen)
    order = np.lexsort((every["copy"], every["low"], every["high"]))
    twice = ~ids.starts(*(every[name][order] for name in ("high", "low", "copy")))
    if twice.any():
        row = int(order[twice.argmax()])
        return f"document {row} is in it twice, with the same number of its copy", nothing
    return None, np.ascontiguousarray(every["high"])


_KEY = np.dtype([("high", "u8"), ("low", "u8"), ("copy", "i4")])


def numbering(names: Sequence[str]) -> str | None:
    """What is wrong with the names of the shards of a split: those of one set are numbered without gaps."""
    sets: dict[str, list[tuple[int, int]]] = {}
    for name in names:
        match = re.fullmatch(r"(.+)-(\d{5,})-of-(\d{5,})", name)
        if match is None:
            return f"the shard {name} is not named SPLIT-00000-of-00001"
        sets.setdefault(match[1], []).append((int(match[2]), int(match[3])))
    for name, found in sets.items():
        if found != [(number, len(found)) for number in range(len(found))]:
            return f"the shards {name}-... are not numbered without gaps"
    return None


def _check_mixture(corpus: Corpus) -> Iterator[tuple[Path, str]]:
    """`mixture.json` and whatever else `corpus.json` lists under `files`, and the groups of the shards."""
    listed = corpus.meta.get("files", {})
    damaged = False
    for name, digest in listed.items():
        path = corpus.folder / name
        if not path.is_file():
            yield path, "is missing"
            damaged = True
        elif digests(path)[0] != digest:
            yield path, "has other contents: its SHA-256 is not the one in corpus.json"
            damaged = True
    if damaged or MIXTURE_FILE not in listed:
        if corpus.meta.get("layout") == "by_source" and not damaged:
            yield corpus.folder / "corpus.json", f"its layout is by_source, but it lists no {MIXTURE_FILE}"
        return
    path = corpus.folder / MIXTURE_FILE
    try:
        plan = json.loads(path.read_text("utf-8"))
        if (plan["format"], plan["format_version"]) != (MIXTURE_FORMAT, MIXTURE_FORMAT_VERSION):
            raise ValueError(f"it is no {MIXTURE_FORMAT} of version {MIXTURE_FORMAT_VERSION}")
        asked = {name: (one["share"], one["tokens"]) for name, one in plan["groups"].items()}
        total = sum(share for share, _ in asked.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield path, f"is not readable: {error!r}"
        return
    tokens: dict[str | None, int] = {}
    for facts in corpus.meta["splits"].get("train", {}).get("shards", []):
        tokens[facts.get("group")] = tokens.get(facts.get("group"), 0) + facts["tokens"]
    for name, (_, once) in asked.items():
        if tokens.get(name, 0) != once:
            yield path, f"group {name} has {once} tokens in it, {tokens.get(name, 0)} in the shards"
            return
    if other := sorted(str(name) for name in tokens.keys() - asked.keys()):
        yield path, f"does not name the group {other[0]} of the shards"
    elif asked and abs(total - 1) > 1e-6:
        yield path, f"the shares add up to {total:g}"
