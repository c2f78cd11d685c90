"""Documents, and paragraphs, that a classifier finds toxic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le

from stages.base import Outcome, Processor, Rule, Stage, judged
from stages.classifier.causes import causes
from stages.classifier.model import ONE, Model, load, scores
from stages.classifier.score import PARTS, Scores, judge, top
from stages.classifier.windows import Windows
from stages.rows import outcome
from stages.text.column import Edits, Texts, edited, texts

_SPAN = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())])
PARAGRAPHS = pa.list_(pa.struct([*_SPAN, pa.field("score", pa.float32()), pa.field("causes", pa.list_(_SPAN))]))


@dataclass(frozen=True, kw_only=True)
class ToxicityModel(Stage):
    """Drops documents, or cuts paragraphs, that a classifier finds toxic: insults, hate, abuse.

    A linear model over hashed words and character n-grams judges windows about as long as a post (75 English words,
    96 Chinese characters). A text's score is the highest that windows with `share` of it reach, so that length
    neither hides nor makes toxicity. A paragraph is a line; short ones are judged together, and where that is above
    the limit, those of them go that are so by themselves, or all where none is. The built-in model was trained on
    English, Chinese and German posts and on clean text of other kinds; its score card is stages/data/toxicity.md.
    `classifier train --kind toxicity` makes others.

    Writes `toxicity_score` (0 to 1; 0 for a text without words) and `toxicity_paragraphs`: of each paragraph
    above the limit start and end (code points of the text as it came), score, and up to three stretches in each of
    its windows that raised it (`causes`).
    """

    name: ClassVar[str] = "toxicity_model"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    model: str = "builtin:toxicity.npz"
    """File of a model of kind `toxicity`."""
    mode: Literal["drop", "cut", "tag"] = "drop"
    """`drop`: documents whose score is above the limit go as `toxic`; `cut`: paragraphs above it are cut out,
    and documents of which nothing is left go; `tag` only writes the columns."""
    max_score: Annotated[float, Gt(0), Le(1)] | None = None
    """Greatest score, 0 to 1, that is not toxic; empty: the threshold that the model advises."""
    share: Annotated[float, Ge(0), Le(1)] = 0.2
    """Share of a document, or paragraph, that must reach a score for it to have that score; 0 for its worst window."""

    def files(self) -> dict[str, str]:
        return {"model": self.model}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        model = load(files["model"], self.model, "toxicity")
        if len(model.labels) != 1:
            raise ValueError(f"model: '{self.model}' has {len(model.labels)} classes; toxicity needs a model with one")
        limit = model.threshold if self.max_score is None else round(self.max_score * ONE)
        if not limit:
            raise ValueError(f"max_score: the model '{self.model}' advises no threshold; set one between 0 and 1")
        return lambda batch: self._judge(batch, model, limit)

    def _judge(self, batch: pa.RecordBatch, model: Model, limit: int) -> Outcome:
        column = batch.column("text")
        view = texts(column)
        found, log_odds = judge(model, view)
        windows = scores(log_odds[:, 0])
        share = round(self.share * PARTS)
        documents = top(found.rows, len(column), found.sizes, windows, share)
        marked = [
            finer
            for one in _marked(model, view, found, windows, share, limit)
            for finer in _lines(model, view, one, share, limit)
        ]
        columns = {
            "toxicity_score": pa.array(documents.astype(np.float32) / np.float32(ONE)),
            "toxicity_paragraphs": _described(view, marked, len(column)),
        }
        counts = {"toxic_paragraphs": len(marked)}
        toxic = documents > limit if self.mode == "drop" else np.zeros(len(column), np.bool_)
        if self.mode == "cut" and len(marked):
            columns["text"] = _cut(column, view, marked)
            cut = columns["toxicity_paragraphs"].flatten()
            counts["characters_cut"] = int((cut.field("end").to_numpy() - cut.field("start").to_numpy()).sum())
            touched = np.unique([one.row for one in marked])
            toxic[touched] = np.diff(texts(columns["text"]).offsets)[touched] == 0
        written = outcome(batch, [], columns, counts)
        values = np.where(view.valid, documents / ONE, np.nan)
        setting = "max_score" if self.mode == "drop" else None
        rules = [Rule("no_text", ~view.valid), Rule("toxic", toxic, values, limit / ONE, setting)]
        return judged(written.batch, rules, written.counts)


class _Marked(NamedTuple):
    """A paragraph above the limit: its text's row, place in the column's buffer, score, stretches that raised it."""

    row: int
    start: int
    end: int
    score: int
    causes: list[list[int]]


def _marked(model: Model, view: Texts, found: Windows, windows: Scores, share: int, limit: int) -> list[_Marked]:
    """The paragraphs above the limit, in order."""
    numbers, first = np.unique(found.paragraphs, return_index=True)
    last = np.append(first[1:], len(windows)) - 1
    values = top(np.searchsorted(numbers, found.paragraphs), len(numbers), found.sizes, windows, share)
    hit = np.flatnonzero(values > limit)
    if not len(hit):
        return []
    first, last, values = first[hit], last[hit], values[hit]
    worst = np.flatnonzero(windows > limit)
    owner = np.searchsorted(first, worst, "right") - 1
    inside = (owner >= 0) & (worst <= last[owner])
    worst, owner = worst[inside], owner[inside]
    spans = causes(model, view, found.starts[worst], found.ends[worst])
    bounds = np.searchsorted(owner, np.arange(len(hit) + 1)).tolist()
    made = []
    for number, (a, b, value) in enumerate(zip(first.tolist(), last.tolist(), values.tolist(), strict=True)):
        named = spans[bounds[number] : bounds[number + 1]].reshape(-1, 2)
        kept = named[named[:, 0] >= 0].tolist()
        made.append(_Marked(int(found.rows[a]), int(found.starts[a]), int(found.ends[b]), int(value), kept))
    return made


def _lines(model: Model, view: Texts, one: _Marked, share: int, limit: int) -> list[_Marked]:
    """The lines of a paragraph that was joined of several, as far as they are above the limit; it itself where none is.

    Else a short insult would take the clean paragraph behind it along.
    """
    lines = bytes(view.data[one.start : one.end]).splitlines(keepends=True)
    if sum(bool(line.strip()) for line in lines) < 2:
        return [one]
    alone = texts(pa.array([line.decode("utf-8", "replace") for line in lines], pa.string()))
    found, log_odds = judge(model, alone)
    windows = scores(log_odds[:, 0])
    values = top(found.rows, len(lines), found.sizes, windows, share)
    above = (windows > limit) & (values > limit)[found.rows]
    spans = causes(model, alone, found.starts[above], found.ends[above])
    made = []
    for number in np.flatnonzero(values > limit).tolist():
        named = spans[found.rows[above] == number].reshape(-1, 2)
        start, end = (one.start + int(place) for place in alone.offsets[number : number + 2])
        kept = (named[named[:, 0] >= 0] + one.start).tolist()
        made.append(_Marked(one.row, start, end, int(values[number]), kept))
    return made or [one]


def _described(view: Texts, marked: list[_Marked], rows: int) -> pa.Array:
    """The column `toxicity_paragraphs`."""
    made: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    places, of_row = np.zeros(1, np.int64), -1
    for row, start, stop, value, named in marked:
        begin, end = int(view.offsets[row]), int(view.offsets[row + 1])
        if row != of_row:
            of_row = row
            places = np.concatenate(([0], np.cumsum(view.data[begin:end] & 0xC0 != 0x80)))  # bytes to code points
        pairs = [(start, stop), *named]
        whole, *parts = ({"start": int(places[a - begin]), "end": int(places[b - begin])} for a, b in pairs)
        made[row].append({**whole, "score": value / ONE, "causes": parts})
    return pa.array(made, PARAGRAPHS)


def _cut(column: pa.Array, view: Texts, marked: list[_Marked]) -> pa.Array:
    """The column without the marked paragraphs."""
    rows, starts, ends = (np.array([one[field] for one in marked], np.int64) for field in range(3))
    return edited(column, Edits(rows, starts - view.offsets[rows], ends - view.offsets[rows], np.zeros_like(rows)))
