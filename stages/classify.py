"""A score, or a label, by a classifier of the user's own: quality, topics and domains."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from annotated_types import Ge, Le

from stages import fasttext
from stages.base import Outcome, Processor, Rule, Stage, judged, with_column
from stages.classifier.model import ONE, Model, load, scores
from stages.classifier.score import PARTS, Scores, judge, mean, top
from stages.schema import COLUMNS
from stages.text.column import Edits, Texts, edited, texts

Limit = Annotated[float, Ge(0), Le(1)]
MOST_GROUPS = 100
"""Labels whose documents are told apart in the counts of later stages, at most."""
_WORST = round(0.2 * PARTS)  # as the stage `toxicity_model` has it


class Verdicts(NamedTuple):
    """What a model says of n texts."""

    best: npt.NDArray[np.int64]
    """Number of the likeliest label; -1 for a text that has no words."""
    scores: Scores
    """Of that label, or of the one that was asked for, in 1/ONE."""


@dataclass(frozen=True, kw_only=True)
class Classify(Stage):
    """Scores documents with a model of the user's own, and drops those out of bounds.

    A file made by `corpusmill classifier train`, or a fastText model (.bin, .ftz). With one class the score is
    written to `column`: 0 to 1, 0 for a text without words. With several the likeliest label goes to `column` and its
    score to `column`_score, and documents are counted by label, as `inspect --topics` reports; where `label` names
    one, that label's score goes to `column` alone. Long texts are judged in windows of some 75 words: their mean
    counts, or for a model of kind `toxicity` what a fifth of the text reaches.

    A topic or domain tag tells the senses of a word apart (a mouse in biology and at a desk): as a column to mix and
    report on and, with the recipe's `tokenizer.prefix`, as tokens in front of the text, where the language model sees
    it. `prefix` writes it into the text itself, for documents that others tokenise.
    """

    name: ClassVar[str] = "classify"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    model: str = "builtin:toxicity.npz"
    """File of the model."""
    column: str = "classifier"
    """Name of the column that is written."""
    label: str = ""
    """The label, of several, whose score is written; empty: the likeliest and its score. fastText's as in its file,
    with or without `__label__`."""
    min_score: Limit | None = None
    """Least score, 0 to 1 (`low_score`); empty: none."""
    max_score: Limit | None = None
    """Greatest score, 0 to 1 (`high_score`); empty: none."""
    prefix: str = ""
    """What is put in front of each text, `{label}` standing for its label, such as `<{label}> `; empty: nothing."""

    def __post_init__(self) -> None:
        if self.column in COLUMNS or not self.column.isidentifier():
            raise ValueError(f"column: '{self.column}' is another column, or no name; say `quality`")
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(f"min_score ({self.min_score}) is above max_score ({self.max_score})")
        if self.prefix and "{label}" not in self.prefix:
            raise ValueError(f"prefix: '{self.prefix}' has no {{label}} in it; say `<{{label}}> `")
        if self.prefix and self.label:
            raise ValueError("prefix: it takes the likeliest label, so `label` must be empty")

    def files(self) -> dict[str, str]:
        return {"model": self.model}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        model = self._read(files["model"])
        label = self._label(model.labels)
        if self.prefix and len(model.labels) == 1:
            raise ValueError(f"prefix: '{self.model}' has one class, so there is no label to put in front")
        return lambda batch: self._judge(batch, model, label)

    def labels(self, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """The labels of the model in the contents of the stage's files. Raises ValueError where it is none."""
        return tuple(self._read(files["model"]).labels)

    def _read(self, data: bytes) -> Model | fasttext.Model:
        if data[:2] == b"PK":  # as NumPy's archives begin
            return load(data, self.model)
        try:
            return fasttext.read(data)
        except ValueError as error:
            raise ValueError(
                f"model: '{self.model}' was made neither by `corpusmill classifier train` nor by fastText: {error}"
            ) from None

    def _label(self, labels: Sequence[str]) -> int | None:
        """The number of the label whose score is asked for."""
        if not self.label:
            return 0 if len(labels) == 1 else None
        wanted = self.label.removeprefix("__label__")
        if wanted not in labels:
            near = difflib.get_close_matches(wanted, labels, n=1, cutoff=0.4)
            hint = f"Did you mean '{near[0]}'?" if near else f"It has: {', '.join(labels[:12])}."
            raise ValueError(f"label: '{self.model}' has no label '{self.label}'. {hint}")
        return list(labels).index(wanted)

    def _judge(self, batch: pa.RecordBatch, model: Model | fasttext.Model, label: int | None) -> Outcome:
        column = batch.column("text")
        view = texts(column)
        best, found = _verdicts(model, view, label)
        rules = [Rule("no_text", ~view.valid)]
        value = np.where(view.valid, found / ONE, np.nan)
        for reason, setting, limit, hit in (
            ("low_score", "min_score", self.min_score, np.less),
            ("high_score", "max_score", self.max_score, np.greater),
        ):
            if limit is not None:
                rules.append(Rule(reason, hit(found, round(limit * ONE)) & view.valid, value, limit, setting))
        score = pa.array(found.astype(np.float32) / np.float32(ONE))
        if label is not None:
            return judged(with_column(batch, self.column, score), rules)
        named = pa.array([None if at < 0 else model.labels[at] for at in best.tolist()], pa.string())
        batch = with_column(with_column(batch, self.column, named), f"{self.column}_score", score)
        rows = np.flatnonzero(best >= 0)
        if self.prefix:
            fronts = [self.prefix.replace("{label}", name).encode() for name in model.labels]
            start = np.zeros_like(rows)
            batch = with_column(batch, "text", edited(column, Edits(rows, start, start, best[rows]), fronts))
        numbers = np.bincount(best[rows], minlength=len(model.labels)).tolist()
        counts = {f"{self.column} {name}": number for name, number in zip(model.labels, numbers, strict=True) if number}
        done = judged(batch, rules, counts)
        if len(model.labels) > MOST_GROUPS:
            return done
        return replace(done, groups={name: best == number for number, name in enumerate(model.labels)})


def _verdicts(model: Model | fasttext.Model, view: Texts, label: int | None) -> Verdicts:
    rows = len(view.valid)
    if isinstance(model, fasttext.Model):
        shares = model.probabilities(view)
        found = np.minimum(np.rint(shares.astype(np.float64) * ONE), ONE).astype(np.int32)
        told = shares.max(1, initial=0) > 0
    else:
        judged = judge(model, view)
        if model.kind == "toxicity":
            seen = judged.windows
            columns = [top(seen.rows, rows, seen.sizes, scores(odds), _WORST) for odds in judged.log_odds.T]
            found, told = np.stack(columns, axis=1), np.bincount(seen.rows, minlength=rows) > 0
        else:
            found, told = mean(judged, rows)
    best = np.where(told, np.argmax(found, axis=1), -1)
    return Verdicts(best, found[np.arange(rows), np.maximum(best, 0)] if label is None else found[:, label])
