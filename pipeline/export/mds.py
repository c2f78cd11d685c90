"""MosaicML Streaming's shards (MDS, version 2), one sample a document: `tokens`, `id`, `source`, `url`.

A shard is: number of samples (uint32), where each begins and the last ends (uint32 each), its settings as JSON, the
samples. A sample is the sizes of its columns (uint32 each), then the columns by name. Written by hand, since the
library that reads it brings torch, torchvision, transformers and the kits of four clouds; it reads this in our tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.export.exporting import Part, blocks
from pipeline.shards import Corpus

SIZE_LIMIT = 1 << 26
"""Most bytes of a shard: the library's default."""


def write(corpus: Corpus, part: Part, folder: Path) -> None:
    """Writes the documents of a part."""
    texts = {"id": "str", "source": "str", "url": "str"}
    _write(folder, {"tokens": f"ndarray:{corpus.dtype.name}"} | texts, _documents(corpus, part))


def write_sequences(corpus: Corpus, part: Part, folder: Path, length: int) -> None:
    """Writes samples of `length` tokens, cut from the documents one behind the other; the column is `tokens`.

    This is what llm-foundry trains on, which pads nothing. The tokens at the end that make no sample are left out.
    """
    _write(folder, {"tokens": f"ndarray:{corpus.dtype.name}"}, _sequences(corpus, part, length))


def _documents(corpus: Corpus, part: Part) -> Iterator[dict[str, bytes]]:
    for shard in part.shards:
        for block in blocks(corpus, shard, ["id", "source", "url"]):
            ends = block.ends.tolist()
            columns = (block.rows[name].to_pylist() for name in ("id", "source", "url"))
            for number, (id_, source, url) in enumerate(zip(*columns, strict=True)):
                tokens = block.tokens[ends[number] : ends[number + 1]]
                if len(tokens):  # the format has no empty arrays
                    texts = {"id": id_.hex(), "source": source or "", "url": url or ""}
                    yield {"tokens": _array(tokens)} | {name: text.encode() for name, text in texts.items()}


def _sequences(corpus: Corpus, part: Part, length: int) -> Iterator[dict[str, bytes]]:
    rest = np.zeros(0, corpus.dtype)
    for shard in part.shards:
        for block in blocks(corpus, shard, []):
            tokens = np.concatenate([rest, block.tokens])
            behind = len(tokens) // length * length
            for first in range(0, behind, length):
                yield {"tokens": _array(tokens[first : first + length])}
            rest = tokens[behind:]


def _array(tokens: npt.NDArray[Any]) -> bytes:
    """One axis whose length is given in as few bytes as it needs, then the values (streaming's NDArray encoding)."""
    size = len(tokens)
    kind = next(kind for kind, limit in enumerate((1 << 8, 1 << 16, 1 << 32)) if size < limit)
    return bytes([1 << 2 | kind]) + size.to_bytes(1 << kind, "little") + tokens.tobytes()


def _write(folder: Path, columns: dict[str, str], samples: Iterator[dict[str, bytes]]) -> None:
    names = sorted(columns)
    settings: dict[str, Any] = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": ["sha256"],
        "size_limit": SIZE_LIMIT,
        "column_names": names,
        "column_encodings": [columns[name] for name in names],
        "column_sizes": [None] * len(names),
    }
    head = json.dumps(settings, sort_keys=True).encode()
    shards: list[dict[str, Any]] = []

    def flush(ready: list[bytes]) -> None:
        sizes = np.array([len(sample) for sample in ready], np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)]) + 4 + 4 * (len(ready) + 1) + len(head)
        count = np.array([len(ready)], "<u4").tobytes()
        data = b"".join([count, starts.astype("<u4").tobytes(), head, *ready])
        name = f"shard.{len(shards):05d}.mds"
        (folder / name).write_bytes(data)
        raw = {"basename": name, "bytes": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
        shards.append(settings | {"samples": len(ready), "raw_data": raw, "zip_data": None})

    ready: list[bytes] = []
    size = empty = 4 + 4 + len(head)
    for sample in samples:
        made = np.array([len(sample[name]) for name in names], "<u4").tobytes()
        made += b"".join(sample[name] for name in names)
        if ready and size + 4 + len(made) > SIZE_LIMIT:
            flush(ready)
            ready, size = [], empty
        ready.append(made)
        size += 4 + len(made)
    if ready:
        flush(ready)
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}, sort_keys=True))
