"""fastText's models, beside fastText itself."""

from __future__ import annotations

import struct
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_language_stage import LID_176

from stages.fasttext import Model, read
from stages.text.column import texts

WORDS = ["</s>", "the", "cat", "今天", "naïve", "dog", "e"]
LABELS = ["__label__good", "__label__bad", "__label__unsure"]


def model_file(loss: int, ngrams: int, shortest: int, longest: int, seed: int = 0) -> bytes:
    """A model with random weights, as fastText writes it."""
    rng = np.random.default_rng(seed)
    size, buckets = 5, 50
    if longest == 0 and ngrams == 1:
        buckets = 0
    data = struct.pack("<2i", 793712314, 12)
    data += struct.pack("<12id", size, 5, 5, 1, 5, ngrams, loss, 3, buckets, shortest, longest, 100, 1e-4)
    data += struct.pack("<3iqq", len(WORDS) + len(LABELS), len(WORDS), len(LABELS), 1000, -1)
    for number, word in enumerate([*WORDS, *LABELS]):
        data += word.encode() + b"\0" + struct.pack("<qb", 100 - number, word in LABELS)
    for rows in (len(WORDS) + buckets, len(LABELS)):
        data += struct.pack("<?qq", False, rows, size) + rng.normal(size=(rows, size)).astype("<f4").tobytes()
    return data


def theirs(model: object, text: str) -> dict[str, float]:
    labels, chances = model.predict(text.replace("\n", " "), k=len(LABELS) if len(text) else 1)  # type: ignore[attr-defined]
    return dict(zip(labels, chances, strict=True))


@pytest.mark.parametrize("loss", [1, 3, 4])
@pytest.mark.parametrize(("ngrams", "shortest", "longest"), [(1, 0, 0), (1, 2, 4), (2, 0, 0), (3, 1, 3)])
def test_probabilities_are_fasttext_s(loss: int, ngrams: int, shortest: int, longest: int, tmp_path: Path) -> None:
    """A user's classifier would keep other documents than the user saw it keep."""
    path = tmp_path / "model.bin"
    path.write_bytes(model_file(loss, ngrams, shortest, longest))
    library, ours = fasttext.load_model(str(path)), read(path.read_bytes())
    cases = ["the cat", "今天 dog naïve naïve x", "unknown words only ¿qué?", "a", "the  cat\tthe\ndog", "e e e é"]
    found = ours.probabilities(texts(pa.array(cases)))
    for text, row in zip(cases, found, strict=True):
        wanted = theirs(library, text)
        assert dict(zip(ours.labels, row.tolist(), strict=True)) == pytest.approx(
            {label.removeprefix("__label__"): chance for label, chance in wanted.items()}, abs=1e-4
        )


@pytest.fixture(scope="module")
def lid() -> tuple[Model, object]:
    return read(LID_176.read_bytes()), fasttext.load_model(str(LID_176))


@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_a_quantised_model_is_read_too(text: str, lid: tuple[Model, object]) -> None:
    """Languages would be other ones than lid.176 says."""
    ours, library = lid
    row = ours.probabilities(texts(pa.array([text])))[0]
    labels, chances = library.predict(text.replace("\n", " "), k=1)  # type: ignore[attr-defined]
    if labels and row.any():
        assert row.max() == pytest.approx(chances[0], abs=1e-4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "this is no model that fastText wrote"),
        (b"PK\3\4 something else that is long enough", "it begins with"),
        (model_file(3, 1, 0, 0)[:200], "this is no model that fastText wrote"),
        (model_file(3, 1, 0, 0).replace(struct.pack("<2i", 3, 3), struct.pack("<2i", 3, 1), 1), "word vectors"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, says: str) -> None:
    """A wrong file would stop a run in the middle, or give scores that mean nothing."""
    with pytest.raises(ValueError, match=says):
        read(data)
