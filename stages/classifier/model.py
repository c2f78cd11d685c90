"""The file of a classifier: a NumPy archive of integers and one JSON text. Made by `stages.classifier.fit`."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FORMAT = 1
KINDS = ("toxicity", "quality", "topic")
"""What a model is for. `toxicity` is judged by the worst part of a text, the others by all of it."""
ONE = 10_000
"""Scores are in 1/10,000."""
LEAF = 4096
"""Log odds are in 1/4,096."""
_STEPS = 256  # a step of the logistic table is 1/256 of log odds, from -16 to 16
LOGISTIC = np.array(
    [round(ONE / (1 + math.exp(-at / _STEPS))) for at in range(-16 * _STEPS, 16 * _STEPS + 1)], np.int32
)


class Model(NamedTuple):
    """A linear model for each of K classes over 2**bits buckets of hashed features."""

    kind: str
    labels: tuple[str, ...]
    """Of the K classes. A model with one class tells it from everything else."""
    weights: npt.NDArray[np.int8]
    """K rows of 2**bits. A weight w stands for w * |w|: a few are a thousand times as large as most."""
    scales: npt.NDArray[np.int64]
    """Of each class, what a weight of 1 adds to log odds times the root of the number of features, in
    1/(LEAF * 65,536)."""
    biases: npt.NDArray[np.int64]
    """Of each class, in 1/LEAF."""
    threshold: int
    """The maker of the model takes scores above it for the class, in 1/ONE; 0 for none."""
    facts: dict[str, Any]
    """What it was trained on, and how well it does."""

    @property
    def bits(self) -> int:
        return int(self.weights.shape[1]).bit_length() - 1


def scores(log_odds: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Probabilities in 1/ONE for log odds in 1/LEAF."""
    steps = (log_odds * _STEPS + 16 * _STEPS * LEAF + LEAF // 2) // LEAF
    made: npt.NDArray[np.int32] = LOGISTIC[np.clip(steps, 0, len(LOGISTIC) - 1)]
    return made


def dump(model: Model) -> bytes:
    """The model as bytes, the same for the same model."""
    head = {
        "format": FORMAT,
        "kind": model.kind,
        "labels": list(model.labels),
        "threshold": model.threshold,
        "facts": model.facts,
    }
    buffer = io.BytesIO()
    np.savez_compressed(  # numpy writes no times into it
        buffer,
        corpusmill_classifier=np.array(json.dumps(head, ensure_ascii=False, sort_keys=True)),
        weights=model.weights,
        scales=model.scales,
        biases=model.biases,
    )
    return buffer.getvalue()


def load(data: bytes, name: str, kind: str | None = None) -> Model:
    """The model of `dump`.

    Raises ValueError, which calls the file by its `name`, where it is no model, a damaged one, one of another format,
    or of another kind than `kind`.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            head = json.loads(str(file["corpusmill_classifier"]))
            arrays = {key: file[key] for key in ("weights", "scales", "biases") if key in file.files}
        number = head["format"]
        if number == FORMAT:
            model = Model(
                str(head["kind"]), tuple(map(str, head["labels"])), arrays["weights"], arrays["scales"],
                arrays["biases"], int(head["threshold"]), dict(head["facts"]),
            )  # fmt: skip
            _check(model)
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"'{name}' is no model of a classifier, or a damaged one; `corpusmill classifier train` makes such models"
        ) from error
    if number != FORMAT:
        raise ValueError(
            f"'{name}' is a classifier of format {number}, and this corpusmill reads format {FORMAT}: train it again "
            "with `corpusmill classifier train`"
        )
    if kind and model.kind != kind:
        raise ValueError(
            f"'{name}' is a classifier of kind '{model.kind}', not '{kind}'. Use the stage `classify` for it, or train "
            f"one with `corpusmill classifier train --kind {kind}`"
        )
    return model


def _check(model: Model) -> None:
    """Raises ValueError where a kernel would look beyond the end of an array, or sums would not fit."""
    classes = len(model.labels)
    buckets = model.weights.shape[-1]
    if model.kind not in KINDS or not classes or buckets < 2 or buckets & (buckets - 1) or model.bits > 26:
        raise ValueError("another kind of model")
    if model.weights.shape != (classes, buckets) or model.weights.dtype != np.int8:
        raise ValueError("weights of another shape")
    if any(array.dtype != np.int64 or array.shape != (classes,) for array in (model.scales, model.biases)):
        raise ValueError("arrays of other shapes")
    if (model.scales < 0).any() or (model.scales > 1 << 26).any() or (np.abs(model.biases) > 1 << 32).any():
        raise ValueError("figures out of range")
