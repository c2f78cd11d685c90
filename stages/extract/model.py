"""The model that keeps or drops blocks: two forests of regression trees, and a choice for the whole page.

Leaves are integers, so that the sum over the trees is the same on every machine. The file is made by
`pipeline.train_extractor` and needs none of its libraries to be read.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.extract import features
from stages.extract.blocks import Blocks
from stages.extract.tokens import TOKENS
from stages.extract.weights import TOKEN_SLOTS, WORD_SLOTS
from stages.extract.whole import whole
from stages.kernels import njit

FORMAT = 1
LEAF = 4096
"""Leaves are log odds in 1/4,096."""
ONE = 65536
"""Probabilities are in 1/65,536."""
_STEPS = 64  # a step of the table of the logistic function is 1/64 of log odds, from -16 to 16


class Forest(NamedTuple):
    """Regression trees, one behind another, N nodes in all.

    From a node one goes on to `child`, or to the node behind it where the feature's value is above `threshold`.
    A leaf has an infinite threshold and itself for a child: every row takes `depth` steps in every tree, and no
    branch has to be guessed by the processor.
    """

    roots: npt.NDArray[np.int32]
    """The first node of each tree."""
    depth: npt.NDArray[np.int32]
    """The steps that lead to every leaf of it."""
    feature: npt.NDArray[np.int16]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    leaf: npt.NDArray[np.int32]
    """Of a leaf, the log odds in 1/LEAF."""


class Model(NamedTuple):
    """What decides on blocks."""

    word_weights: npt.NDArray[np.int8]
    token_weights: npt.NDArray[np.int8]
    first: Forest
    """Sees the columns of features.matrix."""
    second: Forest
    """Sees features.context of the first one's probabilities beside them."""
    logistic: npt.NDArray[np.int32]
    """Probabilities for log odds of -16 to 16: a table, since exp() differs between machines."""


class Choice(NamedTuple):
    """What of a page is its main content."""

    keep: npt.NDArray[np.bool_]
    """Of each block."""
    score: float
    """The F1 that the model expects of its choice, from 0 to 1 in steps of 1/1,000."""


def choose(model: Model, blocks: Blocks) -> Choice:
    """The blocks that together have the highest expected token F1 (as in Ye et al. 2012, Optimizing F-measures)."""
    if not len(blocks.counts):
        return Choice(np.zeros(0, np.bool_), 0.0)
    probability = probabilities(model, blocks)
    keep, score = _chosen(probability, blocks.counts)
    whole(
        keep, probability, blocks.counts, blocks.element, blocks.tag, blocks.depth, blocks.first, blocks.last
    )  # fmt: skip
    return Choice(keep, score)


def probabilities(model: Model, blocks: Blocks) -> npt.NDArray[np.int32]:
    """Of each block, the probability in 1/ONE that it is main content: both forests' log odds, weighed 2 to 3."""
    x = features.matrix(blocks, model.word_weights, model.token_weights)
    first = _sums(x, *model.first)
    both = np.concatenate((x, features.context(blocks, _logistic(first, model.logistic))), axis=1)
    made: npt.NDArray[np.int32] = _logistic((2 * first + 3 * _sums(both, *model.second)) // 5, model.logistic)
    return made


def scores(forest: Forest, x: features.Matrix, logistic: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What a forest alone thinks of blocks, as probabilities in 1/ONE."""
    made: npt.NDArray[np.int32] = _logistic(_sums(x, *forest), logistic)
    return made


def dump(model: Model) -> bytes:
    """The model as bytes, the same for the same model."""
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "word_weights": model.word_weights,
        "token_weights": model.token_weights,
    }
    for name, forest in (("first", model.first), ("second", model.second)):
        arrays |= {f"{name}.{field}": value for field, value in forest._asdict().items()}
    arrays["names"] = np.array("\n".join((*features.NAMES, *features.CONTEXT_NAMES)))
    arrays["logistic"] = model.logistic
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # numpy writes no times into it
    return buffer.getvalue()


def load(data: bytes) -> Model:
    """The model of `dump`. Raises ValueError where it is none, is damaged, or was made for other features."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        number, names = int(arrays["format"]), str(arrays["names"])
        if number == FORMAT and names.split("\n") == [*features.NAMES, *features.CONTEXT_NAMES]:
            return _model(arrays)
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError("this is no model of the extractor `blocks`, or a damaged one") from error
    raise ValueError(
        "this model was made for other features than this version has: make it again with "
        "python -m pipeline.train_extractor"
    )


def _model(arrays: dict[str, Any]) -> Model:
    """The model of these arrays. Raises ValueError or KeyError where a kernel would look beyond their ends."""
    first, second = (Forest(*(arrays[f"{name}.{field}"] for field in Forest._fields)) for name in ("first", "second"))
    model = Model(arrays["word_weights"], arrays["token_weights"], first, second, arrays["logistic"])
    tables = (model.word_weights, np.int8, WORD_SLOTS), (model.token_weights, np.int8, TOKEN_SLOTS)
    for array, kind, size in (*tables, (model.logistic, np.int32, 32 * _STEPS + 1)):
        if array.dtype != kind or array.shape != (size,):
            raise ValueError(f"a table of {array.dtype} {array.shape}, not of {kind.__name__} {size}")
    for forest, columns in ((model.first, features.NAMES), (model.second, features.NAMES + features.CONTEXT_NAMES)):
        nodes = forest.child.shape
        if [array.dtype for array in forest] != [np.int32, np.int32, np.int16, np.float32, np.int32, np.int32]:
            raise ValueError("a forest of other types")
        if {array.shape for array in forest[2:]} != {nodes} or forest.roots.shape != forest.depth.shape:
            raise ValueError("a forest of unequal parts")
        steps = forest.child + (forest.threshold < np.inf)
        for array, end in ((forest.roots, nodes[0]), (steps, nodes[0]), (forest.feature, len(columns))):
            if array.min(initial=0) < 0 or array.max(initial=-1) >= end:
                raise ValueError("a forest whose nodes lead nowhere")
    return model


def logistic_table() -> npt.NDArray[np.int32]:
    """The table that goes into a model."""
    odds = np.arange(-16 * _STEPS, 16 * _STEPS + 1) / _STEPS
    return np.round(ONE / (1 + np.exp(-odds))).astype(np.int32)


@njit
def _sums(
    x: npt.NDArray[np.float32], roots: npt.NDArray[np.int32], depth: npt.NDArray[np.int32],
    feature: npt.NDArray[np.int16], threshold: npt.NDArray[np.float32], child: npt.NDArray[np.int32],
    leaf: npt.NDArray[np.int32],
) -> Any:  # fmt: skip
    """The sums of leaves for each row."""
    sums = np.zeros(len(x), np.int32)
    node = np.empty(len(x), np.int32)
    for tree in range(len(roots)):
        node[:] = roots[tree]
        for _ in range(depth[tree]):
            for row in range(len(x)):
                at = node[row]
                node[row] = child[at] + (x[row, feature[at]] > threshold[at])
        for row in range(len(x)):
            sums[row] += leaf[node[row]]
    return sums


@njit
def _logistic(sums: npt.NDArray[np.int32], table: npt.NDArray[np.int32]) -> Any:
    made = np.empty(len(sums), np.int32)
    for i in range(len(sums)):
        step = (np.int64(sums[i]) * _STEPS + 16 * _STEPS * LEAF + LEAF // 2) // LEAF
        made[i] = table[min(max(step, 0), len(table) - 1)]
    return made


@njit
def _chosen(probability: npt.NDArray[np.int32], counts: npt.NDArray[np.int32]) -> Any:
    blocks = len(probability)
    keys = np.empty(blocks, np.int64)
    total = np.int64(0)
    for b in range(blocks):
        keys[b] = (np.int64(ONE - probability[b]) << 32) | b
        total += np.int64(counts[b, TOKENS]) * probability[b]
    order = np.argsort(keys)
    keep = np.zeros(blocks, np.bool_)
    taken = hit = np.int64(0)
    best, best_at = 0.0, -1
    for i in range(blocks):
        b = order[i]
        taken += counts[b, TOKENS]
        hit += np.int64(counts[b, TOKENS]) * probability[b]
        expected = 2.0 * hit / (taken * ONE + total) if total else 0.0
        if expected > best:
            best, best_at = expected, i
    for i in range(best_at + 1):
        keep[order[i]] = True
    return keep, np.floor(best * 1000 + 0.5) / 1000
