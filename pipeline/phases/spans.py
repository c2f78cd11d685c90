"""Phase spans: what is cut of each part where substrings recur, as stored edits, and the documents that are left bare.

See `pipeline.phases.substrings`, whose last step it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import edits
from pipeline.ledger import Part, Staged
from pipeline.parts import PartWriter
from pipeline.phases import signatures, substrings
from pipeline.progress import Reporter
from pipeline.recipe import SUBSTRINGS_LABEL
from pipeline.records import Numbers
from pipeline.work import Context, Task, once, unit_key
from stages.schema import DROPPED
from stages.substrings.cut import Cuts, spans
from stages.substrings.located import Words, located
from stages.substrings.winnow import fingerprints, matching
from stages.text.column import Ints

Drop = tuple[int, str, float, float]
"""Row, reason, words left, limit."""


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    settings = substrings.settings_of(context)
    if settings is None:
        return []
    verdicts = substrings.verdict_parts(context)
    paths = {name: found for name, (found, _) in verdicts.items()}
    seen: Counter[str] = Counter()
    found = []
    for source, documents in zip(substrings.fingerprint_tasks(context), substrings.numbered(context), strict=True):
        row = context.ledger.read_row("fingerprints", source.key)
        assert row is not None
        facts = {
            "fingerprints": source.key, "first": documents.first, "min_words": settings.min_words,
            "cut": {name: digests for name, (_, digests) in verdicts.items()},
        }  # fmt: skip
        seen[source.key] += 1  # of two equal parts each has its own books
        key = unit_key("spans", substrings.PACKAGES, facts | {"number": seen[source.key]})
        spec = documents.spec(context) | paths | {"digest": documents.part.digest}
        found.append(Task("spans", key, documents.part.bytes, spec | {"characters": row.body["characters"]}))
    return found


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The edits of a part, and the rows of the documents of which too little is left."""
    settings = substrings.settings_of(context)
    assert settings is not None
    kept, _ = substrings.kept_of(context, task.spec)
    whole, single = (substrings.wanted(context, task.spec, name) for name in ("whole", "single"))
    reasons: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    characters = task.spec["characters"]
    staged: list[Staged] = []
    if len(whole) or len(single):
        columns = ["id", "source", "url", "origin", "text"]
        at = 0
        with PartWriter(folder / "edits", edits.SCHEMA) as out, PartWriter(folder / "dropped", DROPPED) as lost:
            for batch in edits.read_documents(context, task.spec["documents"], columns):
                bounds = at, at + batch.num_rows
                cuts, left = _cuts(
                    batch, substrings.within(whole, *bounds), substrings.within(single, *bounds), settings.tokens
                )
                drops = _drops(cuts, left, settings.min_words)
                gone = np.zeros(batch.num_rows, np.bool_)
                gone[[row for row, *_ in drops]] = True
                stay = ~gone[cuts.rows]
                out.write(edits.rows(batch, cuts.rows, cuts.starts, cuts.ends, gone))
                lost.write_rows(_dropped_rows(batch, drops))
                reasons.update(reason for _, reason, *_ in drops)
                counts["spans_cut"] += int(stay.sum())
                counts["documents_cut"] += len(np.unique(cuts.rows[stay]))
                counts["words_cut"] += int(cuts.words[stay].sum())
                counts["characters_cut"] += int(cuts.characters[stay].sum())
                lengths = pc.fill_null(pc.utf8_length(batch.column("text")), 0).to_numpy()
                characters -= int(cuts.characters[stay].sum()) + int(lengths[gone].sum())
                at = bounds[1]
                reporter.add(documents=batch.num_rows, kept=batch.num_rows - len(drops))
        staged = [
            Staged(folder / "edits", f"{edits.FOLDER}/spans-{task.key[:20]}.parquet"),
            Staged(folder / "dropped", f"dropped/spans-{task.key[:20]}.parquet"),
        ]
    reporter.add(size=task.size)
    entered, dropped = int(kept.sum()), sum(reasons.values())
    return staged, {
        "clean": task.spec["digest"],
        "entered": entered,
        "kept": entered - dropped,
        "dropped": dict(sorted(reasons.items())),
        "counts": {name: counts[name] for name in sorted(counts) if counts[name]},
        "characters": characters,
        "changed": bool(dropped or counts["spans_cut"]),
    }


def _cuts(batch: pa.RecordBatch, whole: Numbers, single: Numbers, tokens: int) -> tuple[Cuts, dict[int, int]]:
    """What is cut of the texts of a batch, and how many words are left of those."""
    found: list[Cuts] = []
    left: dict[int, int] = {}
    rows = np.unique(np.concatenate([substrings.rows_of(whole), substrings.rows_of(single)]))
    for numbers, column in substrings.chosen(batch, rows):
        words = located(column)
        cuts = spans(column, words, *_stretches(words, whole, single, numbers, tokens), tokens)
        gone = np.bincount(cuts.rows, weights=cuts.words, minlength=len(numbers)).astype(np.int64)
        left |= dict(zip(numbers.tolist(), (words.counts - gone).tolist(), strict=True))
        found.append(cuts._replace(rows=numbers[cuts.rows]))
    empty = [np.zeros(0, np.int64)]
    return Cuts(*(np.concatenate(empty + [cuts[part] for cuts in found]) for part in range(5))), left


def _stretches(words: Words, whole: Numbers, single: Numbers, numbers: Ints, tokens: int) -> tuple[Ints, Ints, Ints]:
    """Row, first and last stretch of what is cut from some texts, the rows `numbers` of a batch."""
    prints = fingerprints(words, tokens)
    mine = matching(prints, whole, numbers)
    documents = substrings.rows_of(single)
    here = (documents >= numbers[0]) & (documents <= numbers[-1])
    rows = np.searchsorted(numbers, documents[here])
    places = (single[here] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return (
        np.concatenate([prints.rows[mine], rows]),
        np.concatenate([prints.lows[mine], places]),
        np.concatenate([prints.highs[mine], places]),
    )


def _drops(cuts: Cuts, left: dict[int, int], min_words: int) -> list[Drop]:
    found: list[Drop] = []
    for row in np.unique(cuts.rows).tolist():
        if left[row] < min_words:
            reason = "empty" if left[row] == 0 else "few_words"
            found.append((row, f"{SUBSTRINGS_LABEL}.{reason}", float(left[row]), float(min_words)))
    return found


def _dropped_rows(batch: pa.RecordBatch, drops: Sequence[Drop]) -> list[dict[str, Any]]:
    if not drops:
        return []
    columns = batch.select(["id", "source", "url", "origin"])
    found: list[dict[str, Any]] = columns.take([row for row, *_ in drops]).to_pylist()
    for facts, (_, reason, value, limit) in zip(found, drops, strict=True):
        facts |= {"stage": SUBSTRINGS_LABEL, "reason": reason, "value": value, "limit": limit, "survivor": None}
    return found


@once
def cut_parts(context: Context) -> list[Part | None]:
    """For each clean part, in their order, the part of edits; None where nothing is cut or dropped."""
    parts = signatures.clean_parts(context)
    if substrings.settings_of(context) is None:
        return [None] * len(parts)
    rows = [context.ledger.read_row("spans", task.key) for task in tasks(context)]
    return [row.part(edits.FOLDER) if row is not None and row.body["changed"] else None for row in rows]
