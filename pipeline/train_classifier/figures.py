"""How well a classifier tells its classes apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.classifier.model import ONE

Scores = npt.NDArray[np.int32]
Truth = npt.NDArray[np.bool_]
THRESHOLDS = (ONE * 3 // 10, ONE // 2, ONE * 7 // 10, ONE * 9 // 10)


def auc(scores: Scores, truth: Truth) -> float:
    """The probability that one of the class scores higher than one of the others; ties count half. NaN without both."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    inside, outside = int(truth.sum()), int((~truth).sum())
    if not inside or not outside:
        return float("nan")
    return float((ranks[truth].sum() - inside * (inside + 1) / 2) / (inside * outside))


def at(scores: Scores, truth: Truth, threshold: int) -> dict[str, float | None]:
    """Precision, recall and the share of the others that are flagged, at scores above `threshold`."""
    hit = scores > threshold
    both = int((hit & truth).sum())
    return {
        "threshold": threshold / ONE,
        "precision": both / int(hit.sum()) if hit.any() else None,
        "recall": both / int(truth.sum()) if truth.any() else None,
        "false_positives": int((hit & ~truth).sum()) / int((~truth).sum()) if not truth.all() else None,
    }


def card(labels: Sequence[str], scores: Scores, classes: npt.NDArray[np.int64], advised: int = 0) -> dict[str, Any]:
    """The figures of each class, one against all others. `classes` has -1 for none of them."""
    thresholds = sorted({*THRESHOLDS, advised} - {0})
    made: dict[str, Any] = {"documents": len(classes)}
    if len(labels) > 1:
        made["accuracy"] = float((scores.argmax(1) == classes).mean()) if len(classes) else None
    for number, label in enumerate(labels):
        truth = classes == number
        column = scores[:, number]
        made[label] = {
            "documents": int(truth.sum()),
            "auc": auc(column, truth) if truth.any() and not truth.all() else None,
            "at": [at(column, truth, threshold) for threshold in thresholds],
        }
    return made
