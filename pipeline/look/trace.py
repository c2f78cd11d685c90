"""`corpusmill trace`: from a token to its record in the crawl and back, and between training steps and documents.

Every function gives facts as one JSON value; `pipeline.look.traceview` prints them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline.corpora.folder import CopiedFolder, corpus_of, tokenizer_of
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.look.find import by_url, everything, id_of
from pipeline.look.runfolder import RunFolder, as_json, scores
from pipeline.tokenizers import Tokenizer

AROUND = 60
"""Tokens shown on each side of the one asked for."""


def of_token(run: RunFolder, place: str) -> dict[str, Any]:
    """The document of a token, `SHARD:POSITION`, its record, and whether the record gives the same tokens again.

    `again` holds `equal` (True, False, or None where the record cannot be had), and why. Raises RecipeError
    where there is no such place.
    """
    name, colon, number = place.rpartition(":")
    if not colon or not name or not number.isdecimal():
        raise RecipeError(f"--token {place}: write SHARD:POSITION, such as train-00000-of-00001:1000")
    corpus = corpus_of(run)
    try:
        shard = corpus.shard(name)
    except UserError as error:
        raise RecipeError(f"--token {place}: {error}") from error
    position = int(number)
    if position >= shard.tokens:
        raise RecipeError(
            f"--token {place}: position out of range; {shard.name} has the tokens 0 to {shard.tokens - 1}"
        )
    inside = [("token_start", "<=", position), ("token_end", ">", position)]
    rows = pq.read_table(shard.path(".docs.parquet"), filters=inside).to_pylist()
    if len(rows) != 1:
        raise DamageError(f"{shard.path('.docs.parquet')} has no document for token {position}; run verify")
    (row,) = rows
    tokens = np.asarray(corpus.tokens(shard)[row["token_start"] : row["token_end"]])
    edge = len(tokens) - 1 if corpus.boundary == "eot-last" else 0
    here = position - row["token_start"]
    bare = np.delete(tokens, edge)
    model = tokenizer_of(corpus)
    facts: dict[str, Any] = {
        "token": {
            "shard": shard.name,
            "position": position,
            "id": int(tokens[here]),
            "place": here,
            "boundary": here == edge,
        },
        "document": described(row) | {"copy": row["copy"], "tokens": [row["token_start"], row["token_end"]]},
        "text": around(model, bare, here - (here > edge), boundary=here == edge),
    }
    facts["again"] = again(run, row, bare)
    return facts


def again(run: RunFolder, document: dict[str, Any], tokens: npt.NDArray[Any]) -> dict[str, Any]:
    """Whether the document's record, extracted and encoded again, gives these tokens."""
    if isinstance(run, CopiedFolder):
        return {"equal": None, "why": f"{run.folder} has no ledger; the folder of the run could do it"}
    from pipeline.look.reextract import extract_again, first_difference  # brings every stage's libraries

    try:
        found = extract_again(run, document)
    except DamageError as error:
        return {"equal": False, "why": str(error)}
    except UserError as error:
        return {"equal": None, "why": str(error)}
    facts: dict[str, Any] = {"equal": True, "file": str(found.file), "other_versions": found.other_versions}
    at = first_difference(tokens, found.tokens)
    if at is not None:
        also = f"; since the run, these changed: {'; '.join(found.other_versions)}" if found.other_versions else ""
        facts |= {
            "equal": False,
            "why": f"the record gives {len(found.tokens)} tokens, the shard holds {len(tokens)}; "
            f"they part at the document's token {at}{also}",
        }
    return facts


def around(model: Tokenizer, tokens: npt.NDArray[Any], place: int, *, boundary: bool) -> dict[str, str]:
    """The text before, of and behind a token of a document. A token inside a character shows the whole character."""
    low, high = max(0, place - AROUND), min(len(tokens), place + AROUND + 1)
    whole = model.decode(tokens[low:high])

    def fits(stop: int) -> str | None:
        text = model.decode(tokens[low:stop])
        return text if whole.startswith(text) else None

    starts = (text for stop in range(place, low - 1, -1) if (text := fits(stop)) is not None)
    before = next(starts, "")
    if boundary:
        middle, after = "", whole[len(before) :]
    else:
        ends = (text for stop in range(place + 1, high + 1) if (text := fits(stop)) is not None)
        upto = next(ends, whole)
        middle, after = upto[len(before) :], whole[len(upto) :]
    before = before.lstrip("\ufffd") if low else before
    after = after.rstrip("\ufffd") if high < len(tokens) else after
    return {"before": before, "token": middle, "after": after}


def of_document(run: RunFolder, text: str, checkpoint: Path | None) -> dict[str, Any]:
    """Where a document is, in all its copies, or why it was dropped; with a checkpoint also the steps that used it."""
    found = everything(run, id_of(run, text))
    facts: dict[str, Any] = {
        "id": found.id.hex(),
        "fate": found.fate,
        "documents": [described(row) | {"part": f"documents/{row['part']}"} for row in found.documents],
        "copies": [
            {name: row[name] for name in ("split", "shard", "copy", "token_start", "token_end")} for row in found.copies
        ],
        "dropped": [as_json(row) for row in found.dropped],
        "beat": [
            {
                "id": row["loser"].hex(),
                "reason": row["reason"],
                "similarity": row["similarity"],
                "url": row["loser_url"],
            }
            for row in found.beat
        ],
    }
    if not found.documents and found.copies:
        facts["documents"] = [described(found.copies[0]) | {"part": None}]
    if checkpoint is not None:
        facts["steps"] = steps_of(run, checkpoint, found.id.hex()) if found.copies else []
    return facts


def of_url(run: RunFolder, url: str) -> list[dict[str, Any]]:
    """Every record of a URL, each with its id and fate."""
    return [as_json(row) for row in by_url(run, url)]


def of_step(run: RunFolder, step: int, checkpoint: Path) -> list[dict[str, Any]]:
    """The documents whose tokens a training step reads, in batch order."""
    from trainer.trace import documents_of_step

    return [asdict(use) for use in documents_of_step(checkpoint, step, corpus_of(run))]


def steps_of(run: RunFolder, checkpoint: Path, document: str) -> list[dict[str, Any]]:
    """Where the training that left this checkpoint read a document; empty where it is of another split."""
    from trainer.trace import steps_of_document

    try:
        return [asdict(use) for use in steps_of_document(checkpoint, corpus_of(run), document)]
    except RecipeError:
        return []


def checkpoint_of(run: RunFolder, given: Path | None, *, needed: bool) -> Path | None:
    """The folder of checkpoints: the one given, else `train` in the run folder. Raises RecipeError where needed."""
    if given is not None:
        if not given.is_dir():
            raise RecipeError(f"--checkpoint {given}: there is no such folder")
        return given
    usual = run.folder / "train"
    if usual.is_dir():
        return usual
    if needed:
        raise RecipeError(
            f"--step needs --checkpoint, the folder that checkpoint.folder names in the training's configuration "
            f"({usual} would be found by itself)"
        )
    return None


def described(row: dict[str, Any]) -> dict[str, Any]:
    """What is known of a document, as JSON."""
    names = ("id", "source", "url", "date", "title", "language", "origin")
    return as_json({name: row.get(name) for name in names}) | {"scores": scores_of(row)}


def scores_of(row: dict[str, Any]) -> dict[str, Any]:
    """The scores of a document, without what is told elsewhere."""
    return as_json({name: value for name, value in scores(row).items() if name not in ("part", "shard", "split")})
