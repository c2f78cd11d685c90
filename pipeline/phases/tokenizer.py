"""Phase tokenizer: trains one on a sample of the corpus, or takes the user's file.

The sample is chosen by keyed hash and read in the order of ids, so it is the same however the documents
lie in parts. Training runs on one thread: SentencePiece's result depends on their number.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import tokenizer as sp
from pipeline.errors import DamageError, UserError
from pipeline.ledger import Row, Staged, file_digest
from pipeline.parts import read_batches
from pipeline.phases import documents
from pipeline.progress import Reporter
from pipeline.work import Context, Task, once, unit_key

PACKAGES = ("sentencepiece",)
MODEL = "tokenizer/tokenizer.model"


@once
def tasks(context: Context) -> list[Task]:
    """One unit, keyed by the settings and the documents; none where the recipe asks for no tokenizer."""
    settings = context.recipe.tokenizer
    if settings is None:
        return []
    if settings.file is not None:
        facts: dict[str, Any] = {"file": file_digest(Path(settings.file))}
        size = 0
        spec = {}
    else:
        parts = documents.parts(context)
        facts = {
            "train": settings.model_dump(mode="json")["train"],
            "parts": [part.digest for part in parts],
            "seed": context.recipe.seed,
            "trial": context.trial.given,
        }
        spec = {"paths": [part.path for part in parts]}
        size = sum(part.bytes for part in parts)
    return [Task("tokenizer", unit_key("tokenizer", PACKAGES, facts), size, spec)]


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The model file and what it is."""
    settings = context.recipe.tokenizer
    assert settings is not None
    if settings.file is not None:
        model = Path(settings.file).read_bytes()
        sp.Tokenizer.from_file(Path(settings.file))
        sampled = None
    else:
        assert settings.train is not None
        chosen = _sample(context, [context.out / path for path in task.spec["paths"]])
        if not chosen:
            raise UserError("no document survived to train a tokenizer on; `corpusmill inspect` shows where they went")
        sampled = {"documents": len(chosen), "bytes": sum(len(text.encode()) for _, _, text in chosen)}
        train = settings.train
        model = sp.train(
            iter(chosen),
            vocabulary=train.vocabulary,
            type=train.type,
            character_coverage=train.character_coverage,
            at_most=context.trial.given,
        )
    tokenizer = sp.Tokenizer.from_bytes(model)
    body = {
        "digest": tokenizer.digest,
        "vocabulary": tokenizer.vocabulary,
        "special": tokenizer.special,
        "sample": sampled,
    }
    (folder / "model").write_bytes(model)
    (folder / "facts").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    reporter.add(size=task.size)
    return [Staged(folder / "model", MODEL), Staged(folder / "facts", "tokenizer/tokenizer.json")], body


def _sample(context: Context, paths: list[Path]) -> list[tuple[bytes, str, str]]:
    """The documents to train on: (id, source, text), in the order of ids."""
    settings = context.recipe.tokenizer
    assert settings is not None
    assert settings.train is not None
    ids: list[bytes] = []
    sources: list[str] = []
    sizes: list[int] = []
    for batch in _batches(paths, ["id", "source", "text"]):
        ids += batch.column("id").to_pylist()
        sources += batch.column("source").to_pylist()
        sizes += pa.compute.binary_length(batch.column("text")).to_pylist()
    mask = sp.sample(
        ids,
        sources,
        np.array(sizes, np.int64),
        seed=context.recipe.seed,
        weights=dict(settings.train.weights) or None,
        budget_bytes=settings.train.sample_bytes,
    )
    wanted = {document for document, take in zip(ids, mask.tolist(), strict=True) if take}
    chosen = []
    for batch in _batches(paths, ["id", "source", "text"]):
        for document, source, text in zip(
            *(batch.column(n).to_pylist() for n in ("id", "source", "text")), strict=True
        ):
            if document in wanted:
                chosen.append((document, source, text))
    return sorted(chosen, key=lambda item: item[0])


def _batches(paths: list[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        yield from read_batches(path, columns)


@functools.lru_cache(maxsize=2)
def opened(path: Path, digest: str) -> sp.Tokenizer:
    """The committed tokenizer; `digest` is what its manifest row says."""
    tokenizer = sp.Tokenizer.from_bytes(path.read_bytes())
    if tokenizer.digest != digest:
        raise DamageError(f"{path} is not the tokenizer that the ledger names; run `corpusmill verify`")
    return tokenizer


def committed(context: Context) -> Row:
    """The manifest row of the tokenizer."""
    (task,) = tasks(context)
    row = context.ledger.read_row("tokenizer", task.key)
    assert row is not None
    return row
