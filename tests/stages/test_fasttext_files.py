"""The stage `classify` with files that fastText itself trained: plain, quantised and pruned, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import batch, reasons

from stages.classify import Classify
from stages.fasttext import read
from stages.text.column import texts

DATA = Path(__file__).parents[1] / "data" / "fasttext"
TOLD = json.loads((DATA / "scores.json").read_text("utf-8"))
FILES = sorted(TOLD["scores"])
WORDS = st.sampled_from(
    ["hot", "the", "onion", "star", "足球", "煮", "naïve", "zzz", "__label__sports", "é", "\t", "\n", " ", "</s>", "<"]
)


@pytest.mark.parametrize("name", FILES)
def test_scores_are_those_that_fasttext_gave(name: str) -> None:
    """A user's classifier would keep other documents than the user saw it keep when it was trained."""
    model = read((DATA / name).read_bytes())
    found = model.probabilities(texts(pa.array(TOLD["texts"])))
    assert sorted(model.labels) == ["cooking", "science", "sports"]
    for column, label in enumerate(model.labels):
        for text, ours, theirs in zip(TOLD["texts"], found[:, column], TOLD["scores"][name][label], strict=True):
            if not text or text.startswith("</s>"):
                assert not ours  # a text without words has no label, where fastText guesses
            else:
                assert ours == pytest.approx(theirs, abs=2e-4), (text, label)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(WORDS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)))
def test_scores_are_the_library_s(parts: list[str]) -> None:
    """The texts that were looked at might be the only ones on which the two agree."""
    library = pytest.importorskip("fasttext", reason="no package of fastText is installed")
    text = " ".join(parts).replace("\n", " ")
    for name in FILES:
        model = read((DATA / name).read_bytes())
        row = model.probabilities(texts(pa.array([text])))[0]
        theirs = {label.removeprefix("__label__"): chance for label, chance in zip(
            *library.load_model(str(DATA / name)).predict(text, k=3), strict=True
        )}  # fmt: skip
        if row.any():
            assert dict(zip(model.labels, row.tolist(), strict=True)) == pytest.approx(
                {label: theirs.get(label, 0.0) for label in model.labels}, abs=2e-4
            )
        else:
            words = [word for word in text.split() if not word.startswith("__label__")]
            assert not words or words[0] == "</s>" or name.endswith(".ftz")  # or all that it knows of them was pruned


@pytest.mark.parametrize("name", ["softmax.bin", "softmax.ftz"])
def test_the_stage_takes_both_kinds(name: str) -> None:
    """A quantised model, which is what users pass on, could not be used."""
    given = [*TOLD["texts"], None]
    best = [max(scores, key=lambda label: scores[label]) for scores in (
        {label: TOLD["scores"][name][label][row] for label in TOLD["scores"][name]} for row in range(len(TOLD["texts"]))
    )]  # fmt: skip
    outcome = Classify(model=name, column="topic").bind({"model": (DATA / name).read_bytes()})(batch(given))
    wanted = [label if row["text"] and not row["text"].startswith("</s>") else None for label, row in zip(
        best, outcome.batch.to_pylist(), strict=True
    )]  # fmt: skip
    assert outcome.batch.column("topic").to_pylist() == wanted
    assert reasons(outcome) == [(len(given) - 1, "no_text")]
    limits: dict[str, Any] = {"label": "__label__sports", "column": "sports", "min_score": 0.5}
    kept = Classify(model=name, **limits).bind({"model": (DATA / name).read_bytes()})(batch(given[:4])).batch
    assert kept.column("text").to_pylist() == [
        text for text, score in zip(given[:4], TOLD["scores"][name]["sports"], strict=False) if score >= 0.5
    ]
    with pytest.raises(ValueError, match=r"label: .* has no label 'sport'\. Did you mean 'sports'"):
        Classify(model=name, label="sport").bind({"model": (DATA / name).read_bytes()})


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_stops_before_work(name: str) -> None:
    """A download that broke off would crash a worker in the middle of a run, or give scores that mean nothing."""
    data = (DATA / name).read_bytes()
    for size in (*range(64), *range(64, len(data), 211), len(data) - 1):
        with pytest.raises(ValueError, match=r"model: 'mine.bin' was made neither by .* nor by fastText: "):
            Classify(model="mine.bin").bind({"model": data[:size]})


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(FILES), changes=st.lists(st.tuples(st.integers(0, 11_000), st.integers(0, 255)), min_size=1)
)
def test_a_damaged_file_is_refused_or_harmless(name: str, changes: list[tuple[int, int]]) -> None:
    """A damaged file could make the kernel read memory that is not its own."""
    data = bytearray((DATA / name).read_bytes())
    for place, value in changes:
        data[place % 200 if place % 2 else place] = value
    try:
        model = read(bytes(data))
    except ValueError:
        return
    found = model.probabilities(texts(pa.array(TOLD["texts"])))
    assert found.shape == (len(TOLD["texts"]), len(model.labels))
    assert not (np.isfinite(found) & ((found < -1e-3) | (found > 1.001))).any()
