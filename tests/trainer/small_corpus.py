"""A small corpus in the shard format, as the pipeline would leave it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.shards import FORMAT, FORMAT_VERSION, shard_name, token_dtype, write_shard

VOCABULARY = 64
EOT, PAD = 0, 1
SCHEMA = pa.schema(
    [
        ("id", pa.binary(16)),
        ("copy", pa.int32()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("language", pa.string()),
    ]
)


def document_id(number: int) -> bytes:
    return hashlib.md5(str(number).encode()).digest()


def write_corpus(
    folder: Path, splits: dict[str, Sequence[Sequence[int]]], seed: int = 0, tokenizer: str = "t0"
) -> Path:
    """Writes a corpus whose splits have shards of documents of the given lengths (tokens, boundary included)."""
    rng = np.random.default_rng(seed)
    (folder / "shards").mkdir(parents=True)
    described: dict[str, Any] = {}
    number = 0
    for split, shards in splits.items():
        rows = []
        for index, lengths in enumerate(shards):
            stem = folder / "shards" / shard_name(split, index, len(shards))
            documents = []
            for length in lengths:
                # each token tells much of the next, so that there is something to learn
                steps = rng.integers(1, 4, max(0, length - 1))
                tokens = np.append(2 + (rng.integers(0, 60) + np.cumsum(steps)) % (VOCABULARY - 2), EOT)[:length]
                row = {"id": document_id(number), "copy": 0, "source": f"source-{number % 2}"}
                documents.append((tokens, row | {"url": f"https://site.example/{number}", "language": "en"}))
                number += 1
            facts = write_shard(stem, documents, token_dtype(VOCABULARY), SCHEMA)
            rows.append({"stem": f"shards/{stem.name}", **facts})
        described[split] = {
            "documents": sum(row["documents"] for row in rows),
            "tokens": sum(row["tokens"] for row in rows),
            "shards": rows,
        }
    special = {"eot": EOT, "pad": PAD}
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": "small",
        "dtype": "uint16",
        "vocabulary": VOCABULARY,
        "boundary": "eot-last",
        "tokenizer": {"file": "tokenizer/tokenizer.model", "digest": tokenizer, "special": special},
        "splits": described,
        "sources": {},
        "mixture": {},
        "layout": "mixed",
    }
    (folder / "corpus.json").write_text(json.dumps(meta))
    return folder


def small_lengths() -> dict[str, list[list[int]]]:
    rng = np.random.default_rng(5)
    draw = [rng.integers(2, 90, 60).tolist() for _ in range(3)]
    return {"train": [draw[0], draw[1]], "validation": [draw[2][:12]]}
