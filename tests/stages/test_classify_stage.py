"""The stage for models of one's own: scores, labels, bounds, prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stage_helpers import batch, reasons, texts

from stages.base import Outcome
from stages.classifier.fit import Examples, Training, fit
from stages.classifier.model import dump
from stages.classifier.windows import windows
from stages.classify import Classify
from stages.text.column import texts as view_of

GIVEN = {
    "animals": [
        "a mouse and a cat",
        "the cat ate the mouse",
        "mice live in fields, and cats hunt mice",
        "the grey mouse",
    ],
    "computers": ["plug in the mouse", "click with the left button of the mouse", "keyboard and screen", "a usb mouse"],
}


def model(*labels: str, kind: str = "topic") -> bytes:
    rows = [text for given in GIVEN.values() for text in given * 10]
    view = view_of(pa.array(rows))
    cut = windows(view.data, view.offsets)
    classes = np.repeat([0, 1] if len(labels) > 1 else [0, -1], 40)
    examples = Examples(view.data, cut.starts, cut.ends, classes, np.ones(len(classes)))
    return dump(fit(examples, kind, labels, Training(bits=12), {}))


TWO = model("animals", "computers")
ONE_CLASS = model("animals", kind="quality")


def run(data: bytes, given: list[str | None], **fields: Any) -> Outcome:
    return Classify(model="mine.npz", **fields).bind({"model": data})(batch(given))


def test_labels_and_scores() -> None:
    """The senses of a word would not be told apart."""
    outcome = run(TWO, ["the cat saw a mouse", "click the mouse button", "", None], column="topic")
    assert outcome.batch.column("topic").to_pylist() == ["animals", "computers", None]
    scores = outcome.batch.column("topic_score").to_pylist()
    assert min(scores[:2]) > 0.5
    assert scores[2:] == [0.0]
    assert reasons(outcome) == [(3, "no_text")]
    assert outcome.counts == {"topic animals": 1, "topic computers": 1}


def test_one_label_s_score_and_bounds() -> None:
    """Documents below the user's limit would stay, or go without a reason and a figure."""
    given: list[str | None] = ["the cat saw a mouse", "click the mouse button", ""]
    outcome = run(TWO, given, label="animals", column="animals", min_score=0.5)
    assert reasons(outcome) == [(1, "low_score"), (2, "low_score")]
    assert "animals_score" not in outcome.batch.schema.names
    assert outcome.measures["min_score"][2] == 0.0  # for `inspect --what-if`
    same = run(ONE_CLASS, given, column="quality", max_score=0.5)
    assert reasons(same) == [(0, "high_score")]
    row, _, value, limit = same.dropped[0]
    assert (row, limit) == (0, 0.5)
    assert value is not None
    assert value > 0.5


def test_a_prefix_names_the_topic() -> None:
    """The language model would not see the domain; or a text without one would get a false one."""
    given: list[str | None] = ["the cat saw a mouse", "", "click the mouse button"]
    assert texts(run(TWO, given, column="topic", prefix="<{label}> ")) == [
        "<animals> the cat saw a mouse", "", "<computers> click the mouse button",
    ]  # fmt: skip
    assert texts(run(TWO, given, column="topic")) == given


def test_settings_that_cannot_be_meant_are_errors() -> None:
    """A run would be made with a score of something else, or overwrite the texts."""
    for fields, message in (
        ({"column": "text"}, "'text' is another column"),
        ({"column": "a b"}, "no name"),
        ({"min_score": 0.9, "max_score": 0.1}, r"min_score \(0.9\) is above max_score \(0.1\)"),
        ({"prefix": "<topic> "}, "has no {label}"),
        ({"prefix": "<{label}> ", "label": "animals"}, "must be empty"),
        ({"label": "animal"}, "Did you mean 'animals'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(TWO, [], **fields)
    with pytest.raises(ValueError, match="one class"):
        run(ONE_CLASS, [], prefix="<{label}> ")
    with pytest.raises(ValueError, match=r"'mine\.npz' was made neither by"):
        run(b"xxxx", [])
