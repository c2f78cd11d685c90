"""py3langid's model, naive Bayes over byte n-grams (Lui and Baldwin 2012), in one kernel over a batch."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from stages.kernels import njit
from stages.text.column import Ints
from stages.text.forms import normalized
from stages.text.utf8 import Bytes

_LOGS = np.array([math.log1p(count) for count in range(4096)])


class NaiveBayes(NamedTuple):
    """The model as arrays."""

    labels: tuple[str, ...]
    moves: npt.NDArray[Any]
    """Next state by row of the state and byte."""
    row_of: Ints
    """Row of each state, in `moves`."""
    feature_of: Ints
    """Feature that a state completes, -1 for none."""
    weights: npt.NDArray[np.float32]
    """(features, classes)."""
    prior: npt.NDArray[np.float64]
    aliases: tuple[tuple[int, int], ...]
    """Classes that are one label in two scripts: the second counts for the first."""

    def probabilities(self, texts: list[bytes]) -> npt.NDArray[np.float64]:
        """(n, classes): what py3langid gives for each text, its sums in one order; uniform where it knows no n-gram."""
        offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
        scores = np.zeros((len(texts), len(self.labels)))
        data = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
        _score(data, offsets, self.moves, self.row_of, self.feature_of, self.weights, self.prior, _LOGS, scores)
        scores *= 1 / np.sqrt(np.maximum(np.diff(offsets), 1))[:, None]  # keeps them comparable across lengths
        power: npt.NDArray[np.float64] = np.exp(scores - scores.max(1, keepdims=True))
        power /= power.sum(1, keepdims=True)
        for first, second in self.aliases:
            power[:, first] += power[:, second]
            power[:, second] = 0
        return power


@functools.cache
def model() -> NaiveBayes:
    """The model that the package ships, loaded once a process (about half a second; 100 MB)."""
    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return NaiveBayes(
        tuple(found.nb_classes), np.frombuffer(found.tk_nextmove, found.tk_nextmove.typecode),
        np.asarray(found.tk_row, np.int64) << 8, np.asarray(found.tk_output, np.int64),
        found.nb_ptc.astype(np.float32), found.nb_pc.astype(np.float64), tuple(found._alias_pairs),
    )  # fmt: skip


def encoded(text: str) -> bytes:
    """The bytes that the model was trained on: NFC, capitals alone made small."""
    return normalized(text.lower() if text.isupper() else text, "NFC").encode("utf-8", "surrogatepass")


@njit
def _score(
    data: Bytes, offsets: Ints, moves: Any, row_of: Ints, feature_of: Ints, weights: Any, prior: Any, logs: Any,
    scores: Any,
) -> None:  # fmt: skip
    where = np.full(len(weights), -1, np.int64)  # place of a feature in the list of those that this text has
    found = np.empty(len(data), np.int64)
    counts = np.empty(len(data), np.int64)
    for row in range(len(scores)):
        state: Any = 0
        number = 0
        for at in range(offsets[row], offsets[row + 1]):
            state = np.int64(moves[row_of[state] + data[at]])
            feature = feature_of[state]
            if feature >= 0:
                place = where[feature]
                if place < 0:
                    where[feature] = number
                    found[number] = feature
                    counts[number] = 1
                    number += 1
                else:
                    counts[place] += 1
        if not number:
            continue
        for index in range(number):
            feature = found[index]
            where[feature] = -1
            weight = logs[min(counts[index], len(logs) - 1)]
            for label in range(len(prior)):
                scores[row, label] += np.float64(weights[feature, label]) * weight
        for label in range(len(prior)):
            scores[row, label] += prior[label]
