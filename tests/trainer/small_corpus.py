"""A small corpus in the shard format, as the pipeline would leave it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pipeline.shards import (
    FORMAT,
    FORMAT_VERSION,
    MIXTURE_FILE,
    MIXTURE_FORMAT,
    MIXTURE_FORMAT_VERSION,
    file_sha256,
    shard_name,
    token_dtype,
    write_shard,
)

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


Shards = Sequence[Sequence[int]]


def write_corpus(
    folder: Path,
    splits: Mapping[str, Shards | Mapping[str, Shards]],
    seed: int = 0,
    tokenizer: str = "t0",
    shares: Mapping[str, float] | None = None,
    max_epochs: float | None = None,
    vocabulary: int = VOCABULARY,
    garbage: Collection[int] = (),
) -> Path:
    """Writes a corpus whose splits have shards of documents of the given lengths (tokens, boundary included).

    Of the documents of the numbers in `garbage`, no token tells anything of the next.
    With `shares` it is laid out by source, and each split has such shards for each group.
    """
    rng = np.random.default_rng(seed)
    (folder / "shards").mkdir(parents=True)
    described: dict[str, Any] = {}
    number = 0
    for split, given in splits.items():
        groups = given if isinstance(given, Mapping) else {None: given}
        rows = []
        for group, index, lengths in (
            (g, i, lengths) for g, shards in groups.items() for i, lengths in enumerate(shards)
        ):
            stem = folder / "shards" / shard_name(f"{split}-{group}" if group else split, index, len(groups[group]))
            documents = []
            for length in lengths:
                # each token tells much of the next, so that there is something to learn
                steps = rng.integers(1, 4, max(0, length - 1))
                tokens = np.append(
                    vocabulary - VOCABULARY + 2 + (rng.integers(0, 60) + np.cumsum(steps)) % (VOCABULARY - 2), EOT
                )[:length]
                if number in garbage:
                    tokens[:-1] = rng.integers(vocabulary - VOCABULARY + 2, vocabulary, length - 1)
                row = {"id": document_id(number), "copy": 0, "source": group or f"source-{number % 2}"}
                documents.append((tokens, row | {"url": f"https://site.example/{number}", "language": "en"}))
                number += 1
            facts = write_shard(stem, documents, token_dtype(vocabulary), SCHEMA)
            rows.append({"stem": f"shards/{stem.name}", **facts} | ({"group": group} if group else {}))
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
        "dtype": token_dtype(vocabulary).name,
        "vocabulary": vocabulary,
        "boundary": "eot-last",
        "tokenizer": {"file": "", "digest": tokenizer, "special": special},
        "splits": described,
        "sources": {},
        "mixture": {},
        "layout": "by_source" if shares else "mixed",
    }
    (folder / "corpus.json").write_text(json.dumps(meta))
    if shares:
        write_mixture(folder, shares, max_epochs)
    return folder


def write_mixture(folder: Path, shares: Mapping[str, float], max_epochs: float | None = None) -> None:
    """Writes `mixture.json`, and its digest into `corpus.json`."""
    groups = {name: {"share": share, "max_epochs": max_epochs} for name, share in shares.items()}
    facts = {"format": MIXTURE_FORMAT, "format_version": MIXTURE_FORMAT_VERSION, "by": ["source"], "tokens": None}
    (folder / MIXTURE_FILE).write_text(json.dumps(facts | {"groups": groups}))
    meta = json.loads((folder / "corpus.json").read_text())
    meta["files"] = {MIXTURE_FILE: file_sha256(folder / MIXTURE_FILE)}
    (folder / "corpus.json").write_text(json.dumps(meta))


def grouped_lengths() -> dict[str, dict[str, list[list[int]]]]:
    rng = np.random.default_rng(6)
    draw = [rng.integers(2, 90, 40).tolist() for _ in range(4)]
    return {
        "train": {"web": draw[:2], "books": [draw[2][:30]], "code": [rng.integers(2, 9, 90).tolist()]},
        "validation": {"web": [draw[3][:8]], "books": [draw[3][8:12]]},
    }


def small_lengths() -> dict[str, list[list[int]]]:
    rng = np.random.default_rng(5)
    draw = [rng.integers(2, 90, 60).tolist() for _ in range(3)]
    return {"train": [draw[0], draw[1]], "validation": [draw[2][:12]]}


SETTINGS: dict[str, Any] = {
    "model": {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1},
    "sequence_length": 32,
    "global_batch": 4,
    "micro_batch": 2,
    "steps": 20,
    "optimizer": {"learning_rate": 1.0e-2},
    "schedule": {"warmup": 2},
    "device": "cpu",
    "threads": 1,
    "seed": 3,
}


def write_config(folder: Path, corpus: Path, name: str = "train", **changes: Any) -> Path:
    """A configuration of a tiny model over a corpus, in a folder; keywords replace top-level keys."""
    values = SETTINGS | {
        "data": {"corpus": str(corpus)},
        "checkpoint": {"folder": str(folder / name / "checkpoints"), "every": 5},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path
