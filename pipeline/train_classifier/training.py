"""From documents with labels to a model, and from a model to its figures on documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RecipeError
from pipeline.train_classifier.documents import Document
from pipeline.train_classifier.figures import card
from stages.classifier.fit import Examples, Training, fit
from stages.classifier.model import Model, scores
from stages.classifier.score import PARTS, judge, mean, top
from stages.classifier.windows import windows
from stages.hashing import keyed, threshold
from stages.keys import sound
from stages.text.column import texts

MOST_WINDOWS = 32
"""Most windows of a document that are learned from, spread over its length."""
NOT = "not"
"""What the documents that are not of a model's one class are called."""


class Parted(NamedTuple):
    """Documents without copies, in two parts."""

    train: list[Document]
    held_out: list[Document]
    copies: int
    """How many were left out because their text is another's, but for case, blanks and punctuation."""


def parted(documents: Iterable[Document], share: float, seed: int) -> Parted:
    """The documents with `share` of them held out, by a hash of the text: a copy is never on both sides.

    Copies with different labels are left out altogether, for one of them is wrong.
    """
    labels: dict[str, set[str]] = {}
    first: dict[str, Document] = {}
    number = 0
    for document in documents:
        number += 1
        key = sound(document.text) or document.text
        labels.setdefault(key, set()).add(document.label)
        first.setdefault(key, document)
    made = Parted([], [], 0)
    limit = threshold(share)
    for key, document in first.items():
        if len(labels[key]) == 1:
            side = made.held_out if keyed("split", seed, key.encode("utf-8", "replace")) < limit else made.train
            side.append(document)
    return made._replace(copies=number - len(made.train) - len(made.held_out))


def common(documents: Sequence[Document], least: int) -> tuple[list[Document], dict[str, int]]:
    """The documents whose label at least so many have, and how many documents each other label has."""
    counts = Counter(document.label for document in documents)
    rare = {label: count for label, count in sorted(counts.items()) if count < least}
    return [document for document in documents if document.label not in rare], rare


def train(
    documents: Sequence[Document], kind: str, labels: Sequence[str], training: Training, facts: dict[str, Any]
) -> Model:
    """A model of the documents. Each class weighs as much as every other; a document weighs as the root of the number
    of its windows."""
    view = texts(pa.array([document.text for document in documents], pa.large_string()))
    cut = windows(view.data, view.offsets)
    numbers = np.bincount(cut.rows, minlength=len(documents))
    place = np.arange(len(cut.rows)) - (np.cumsum(numbers) - numbers)[cut.rows]
    many = np.maximum(numbers[cut.rows], 1)
    used = (place * MOST_WINDOWS // many != (place - 1) * MOST_WINDOWS // many) | (many <= MOST_WINDOWS)
    rows = cut.rows[used]
    classes = _numbers(documents, labels)
    counts = Counter(classes.tolist())
    if len(counts) < max(len(labels), 2):
        raise RecipeError(f"there must be documents of at least two classes; there are {dict(counts)}")
    of_class = np.array([len(documents) / len(counts) / counts[label] for label in classes.tolist()])
    weights = of_class[rows] / np.sqrt(np.bincount(rows, minlength=len(documents))[rows])
    examples = Examples(view.data, cut.starts[used], cut.ends[used], classes[rows], weights)
    return fit(examples, kind, labels, training, facts)


def test(model: Model, documents: Sequence[Document]) -> dict[str, Any]:
    """The figures of a model on documents whose labels are its own, or for a model with one class any other."""
    classes = _numbers(documents, model.labels)
    if len(model.labels) > 1 and (classes < 0).any():
        wrong = documents[int(np.flatnonzero(classes < 0)[0])].label
        raise RecipeError(f"the model has no class '{wrong}'; it has {', '.join(model.labels)}")
    view = texts(pa.array([document.text for document in documents], pa.large_string()))
    judged = judge(model, view)
    if model.kind == "toxicity":
        seen = judged.windows
        columns = [top(seen.rows, len(documents), seen.sizes, scores(odds), PARTS // 5) for odds in judged.log_odds.T]
        found = np.stack(columns, axis=1)
    else:
        found, _ = mean(judged, len(documents))
    return card(model.labels, found, classes, model.threshold)


def _numbers(documents: Sequence[Document], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    places = {label: number for number, label in enumerate(labels)}
    return np.array([places.get(document.label, -1) for document in documents], np.int64)
