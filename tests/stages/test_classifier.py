"""The classifier's kernels against plain Python, what long texts get, training, and files that are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from classifier_reference import log_odds
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.classifier import model as models
from stages.classifier.fit import Examples, Training, fit, shuffled
from stages.classifier.model import ONE, Model, dump, load, scores
from stages.classifier.score import PARTS, judge, mean, top
from stages.classifier.windows import windows
from stages.text.column import texts

rng = np.random.default_rng(5)
RANDOM = Model(
    "topic",
    ("a", "b"),
    rng.integers(-127, 128, (2, 1 << 12), dtype=np.int8),
    np.array([90_000, 12_345]),
    np.array([-321, 55]),
    0,
    {},
)
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["They don’t know it's http://a.b/c?d, sooooo f**k", "今天天气很好。我们去公园", "วันนี้อากาศดีมาก"]),
    st.sampled_from(["\n", "\r\n\u2028", " ", "a\u200bb\u00adc", "é\u0301́", "Ａ１２３４", "'s 'a' a'b", "://", "\x00"]),
    st.sampled_from(["x" * 300, "word " * 60, "长" * 130, "👍🏽👍🏽👍🏽👍🏽"]),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=150)
@given(rows=st.lists(st.one_of(st.none(), TEXTS), max_size=4), skip=st.integers(0, 2))
def test_sums_are_those_of_plain_python(rows: list[str | None], skip: int) -> None:
    """A text's score would hang on the machine, on where it lies in a batch, or on parts that nobody wrote."""
    column = pa.array(rows, pa.string()).slice(min(skip, len(rows)))
    judged = judge(RANDOM, texts(column))
    wanted = [(row, *odds) for row, text in enumerate(column.to_pylist()) for odds in log_odds(RANDOM, text or "")]
    assert [(row, *odds) for row, odds in zip(judged.windows.rows, judged.log_odds.tolist(), strict=True)] == wanted


@given(text=TEXTS)
def test_windows_cover_a_text(text: str) -> None:
    """A part of a text would not be judged, or be judged twice."""
    view = texts(pa.array([text]))
    found = windows(view.data, view.offsets)
    assert "".join(
        view.data[start:end].tobytes().decode() for start, end in zip(found.starts, found.ends, strict=True)
    ) == (text)
    assert (np.diff(found.paragraphs) >= 0).all()
    assert (found.sizes <= 384 + 64 + 4).all()


def test_a_share_of_the_text_decides_not_its_length() -> None:
    """A book would be condemned for its length, or an insult be hidden in it."""
    groups = np.array([0, 1, 1, 1, 1, 1, 3, 3])
    values = np.array([9000, 9000, 100, 200, 300, 400, 7000, 100], np.int32)
    sizes = np.array([10, 10, 10, 10, 10, 10, 1, 99])
    assert top(groups, 4, sizes, values, PARTS // 5).tolist() == [9000, 9000, 0, 100]
    assert top(groups, 4, sizes, values, PARTS // 5 + 1).tolist() == [9000, 400, 0, 100]
    assert top(groups, 4, sizes, values, 0).tolist() == [9000, 9000, 0, 7000]
    line = "some words of a text " * 6 + "\n"  # a paragraph and a window
    once, often = (judge(RANDOM, texts(pa.array([line * number]))) for number in (2, 50))
    assert mean(once, 1)[0].tolist() == mean(often, 1)[0].tolist()


def trained(**settings: int) -> Model:
    given = [
        "the cat sat on the mat",
        "a dog and a cat",
        "cats purr",
        "stocks fell",
        "the bank sold bonds",
        "a loan",
    ] * 5
    view = texts(pa.array(given))
    cut = windows(view.data, view.offsets)
    classes = np.array([0, 0, 0, -1, -1, -1] * 5)
    examples = Examples(view.data, cut.starts, cut.ends, classes, np.ones(len(classes)))
    return fit(examples, "quality", ("good",), Training(bits=10, **settings), {"from": "here"})


def test_training_learns_and_gives_the_same_bytes() -> None:
    """Two trainings on the same texts would give two models; or none that tells cats from bonds."""
    one = trained()
    assert dump(one) == dump(trained())
    assert dump(one) != dump(trained(seed=2))
    found, told = mean(judge(one, texts(pa.array(["my cat", "her bonds", "…", ""]))), 4)
    assert found[0, 0] > ONE * 0.6
    assert found[1, 0] < ONE * 0.4
    assert told.tolist() == [True, True, True, False]
    again = load(dump(one), "m.npz")
    assert again._replace(weights=0, scales=0, biases=0) == one._replace(weights=0, scales=0, biases=0)  # type: ignore[arg-type]
    assert (again.weights == one.weights).all()


def test_orders_are_whole_and_differ() -> None:
    """Examples would be left out of an epoch."""
    assert sorted(shuffled(100, 1)) == list(range(100))
    assert shuffled(100, 1).tolist() != shuffled(100, 2).tolist()


def test_scores_rise_with_log_odds() -> None:
    """A threshold would let pass what is worse than what it stops."""
    found = scores(np.arange(-20 * 4096, 20 * 4096, 7))
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, ONE)
    assert scores(np.array([0])).tolist() == [ONE // 2]


def test_other_files_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of another version would be misread; the user would not learn which file is meant."""
    data = dump(trained())
    with pytest.raises(ValueError, match=r"'my.npz' is a classifier of kind 'quality', not 'toxicity'"):
        load(data, "my.npz", "toxicity")
    for broken in (b"", b"PK", data[:-30], b"\x00" * 100):
        with pytest.raises(ValueError, match=r"'my.npz' is no model of a classifier, or a damaged one"):
            load(broken, "my.npz")
    wrong = trained()
    with pytest.raises(ValueError, match="is no model"):
        load(dump(wrong._replace(weights=wrong.weights[:, :1000])), "my.npz")
    monkeypatch.setattr(models, "FORMAT", 2)
    newer = dump(trained())
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 2, and this corpusmill reads format 1"):
        load(newer, "my.npz")
