"""Shards without a `corpus.json`: what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpora.checks import ENDINGS, Lengths
from pipeline.errors import DamageError
from pipeline.shards import Corpus, Shard, read_index


def shards_in(folder: Path) -> tuple[Corpus, list[Shard]]:
    """Shards that lie in a folder without `corpus.json`, as far as they speak for themselves: no digests, no
    vocabulary; the boundary is the token that the documents of the first one share."""
    stems = sorted({path.name.removesuffix(ending) for path in folder.iterdir() for ending in ENDINGS
                    if path.name.endswith(ending)})  # fmt: skip
    shards = []
    meta: dict[str, Any] = {"dtype": "uint16", "boundary": "eot-last", "tokenizer": {"special": {"eot": -1}}}
    for stem in stems:
        try:
            dtype, lengths = read_index(folder / f"{stem}.idx")
        except (DamageError, OSError):
            shards.append(Shard(folder / stem, stem, 0, 0, {}))
            continue
        shard = Shard(folder / stem, stem, len(lengths), int(lengths.sum(dtype=np.int64)), {})
        if meta["tokenizer"]["special"] == {"eot": -1} and len(lengths) and lengths.min() > 0:
            meta |= {"dtype": dtype.name}
            _guess_boundary(meta, shard.path(".bin"), dtype, np.cumsum(lengths, dtype=np.int64))
        shards.append(shard)
    meta["vocabulary"] = 65_536 if meta["dtype"] == "uint16" else 2**31
    return Corpus(folder, meta), shards


def _guess_boundary(meta: dict[str, Any], path: Path, dtype: np.dtype[Any], ends: Lengths) -> None:
    if not path.is_file() or path.stat().st_size != int(ends[-1]) * dtype.itemsize:
        return
    tokens = np.memmap(path, dtype, "r")
    last, first = tokens[ends - 1], tokens[np.append(0, ends[:-1])]
    (ids_last, count_last), (ids_first, count_first) = (np.unique(one, return_counts=True) for one in (last, first))
    if count_first.max() > count_last.max():
        meta |= {"boundary": "bos-first", "tokenizer": {"special": {"bos": int(ids_first[count_first.argmax()])}}}
    else:
        meta |= {"tokenizer": {"special": {"eot": int(ids_last[count_last.argmax()])}}}
