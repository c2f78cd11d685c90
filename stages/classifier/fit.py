"""Training: logistic regression by AdaGrad over hashed features, the same numbers on every machine.

Features are made anew in each epoch and never stored, so memory is the weights and the texts. One thread, a fixed
order, and no operation but those that IEEE 754 rounds exactly; the logistic function comes from a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.classifier import symbols
from stages.classifier.features import PER_CODE, features
from stages.classifier.model import LEAF, Model
from stages.classifier.windows import ROOM
from stages.kernels import njit
from stages.text.column import Ints
from stages.text.utf8 import Bytes

Floats = npt.NDArray[np.float64]
_STEPS = 256
_LOGISTIC = np.array([round(1 / (1 + math.exp(-at / _STEPS)), 12) for at in range(-16 * _STEPS, 16 * _STEPS + 2)])


class Training(NamedTuple):
    """How a model is trained. The defaults were chosen on toxicity/ and hold for user's data of that size and more."""

    bits: int = 20
    """Buckets are 2**bits; one byte each and class."""
    epochs: int = 8
    """The weights of the later half of them are averaged."""
    rate: float = 0.5
    """AdaGrad's (Duchi et al. 2011, figure 1) step."""
    dropout: float = 0.5
    """Share of a window's features left out at each step, so that none is relied upon alone."""
    seed: int = 1


class Examples(NamedTuple):
    """What a model is trained on: windows of `data`, the class of each (-1 for none of them), and what each weighs."""

    data: Bytes
    starts: Ints
    ends: Ints
    classes: Ints
    weights: Floats


def fit(examples: Examples, kind: str, labels: Sequence[str], training: Training, facts: dict[str, Any]) -> Model:
    """A model with one class for each of `labels`; it has no threshold yet."""
    shape = len(labels), 1 << training.bits
    weights, squares = np.zeros(shape, np.float32), np.full(shape, 0.1, np.float32)
    average = np.zeros(shape, np.float32)
    biases = np.zeros((len(labels), 2))
    averaged = max(training.epochs // 2, 1)
    average_bias = np.zeros(len(labels))
    for epoch in range(training.epochs):
        seed = training.seed * 1000 + epoch
        _epoch(
            *examples, shuffled(len(examples.starts), seed), symbols.symbols(), _LOGISTIC, weights, squares, biases,
            np.uint32(32 - training.bits), training.rate, training.dropout, np.uint64(seed + 1),
        )  # fmt: skip
        if epoch >= training.epochs - averaged:
            average += weights / np.float32(averaged)
            average_bias += biases[:, 0] / averaged
    average *= np.float32(math.sqrt(1 - training.dropout))  # in use, no feature is left out
    return _quantised(average, average_bias, kind, tuple(labels), facts)


def shuffled(number: int, seed: int) -> Ints:
    """The numbers below `number` in an order that hangs on the seed alone (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        state = np.arange(1, number + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 40)
        state *= np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


def _quantised(
    weights: npt.NDArray[np.float32], biases: Floats, kind: str, labels: tuple[str, ...], facts: dict[str, Any]
) -> Model:
    units = np.empty(len(labels))
    made = np.empty(weights.shape, np.int8)
    for k, row in enumerate(weights):
        units[k] = max(float(np.abs(row).max()), 1e-6) / 127**2
        made[k] = np.copysign(np.rint(np.sqrt(np.abs(row) / units[k])), row)
    scales = np.rint(units * LEAF * 65536).astype(np.int64)
    return Model(kind, labels, made, scales, np.rint(biases * LEAF).astype(np.int64), 0, facts)


@njit
def _epoch(
    data: Bytes, starts: Ints, ends: Ints, classes: Ints, importance: Floats, order: Ints,
    table: npt.NDArray[np.uint32], logistic: Floats, weights: npt.NDArray[np.float32],
    squares: npt.NDArray[np.float32], biases: Floats, shift: Any, rate: float, dropout: float, seed: Any,
) -> None:  # fmt: skip
    codes = np.empty(ROOM + 3, np.uint32)
    places = np.empty(ROOM + 3, np.int64)
    hashes = np.empty((ROOM + 3) * PER_CODE, np.uint32)
    spans = np.empty((0, 2), np.int64)
    state = np.uint64(seed)
    limit = np.uint64(dropout * 4294967296.0)
    for window in order:
        count = features(data, starts[window], ends[window], table, codes, places, hashes, spans)
        kept = 0
        for f in range(count):
            state ^= state << np.uint64(13)  # xorshift64 (Marsaglia 2003)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            if state >> np.uint64(32) >= limit:
                hashes[kept] = hashes[f]
                kept += 1
        if not kept:
            continue
        norm = 1.0 / np.sqrt(np.float64(kept))
        for k in range(len(weights)):
            total = 0.0
            for f in range(kept):
                total += weights[k, hashes[f] >> shift]
            odds = min(max((total * norm + biases[k, 0] + 16.0) * _STEPS, 0.0), 32.0 * _STEPS)
            step = np.int64(odds)
            share = odds - step
            probability = logistic[step] * (1.0 - share) + logistic[step + 1] * share
            error = (probability - (1.0 if classes[window] == k else 0.0)) * importance[window]
            biases[k, 1] += error * error
            biases[k, 0] -= 0.05 * error / np.sqrt(biases[k, 1] + 1.0)
            slope = np.float32(error * norm)
            for f in range(kept):
                bucket = hashes[f] >> shift
                squares[k, bucket] += slope * slope
                weights[k, bucket] -= np.float32(rate * slope / np.sqrt(squares[k, bucket]))
