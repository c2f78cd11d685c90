"""The stage that puts spelling right touches what it must, and no more."""

from __future__ import annotations

import pytest
from stage_helpers import batch, reasons, texts

from stages.spelling import Spelling

pytest.importorskip("symspellpy", reason="the extra `spelling` is not installed")


def test_words_are_put_right_and_nothing_else() -> None:
    """Names, code, addresses and other languages would be written anew."""
    text = (
        "We recieve `recieve` seperate Recieve RECIEVE a/recieve recieve.py me@recieve.com recieve() well-recieve teh"
    )
    data = batch([text, text, None, "fine words"], language=["en-GB", "fr", "en", "en"])
    outcome = Spelling().bind({})(data)
    assert texts(outcome) == [
        text.replace("We recieve `recieve` seperate", "We receive `recieve` separate"),
        text,
        "fine words",
    ]
    assert outcome.batch.column("words_corrected").to_pylist() == [2, 0, 0]
    assert outcome.counts == {"words_corrected": 2, "characters_cut": 15}
    assert reasons(outcome) == [(2, "no_text")]


def test_ones_own_dictionary() -> None:
    """A language without a dictionary, or a file in the wrong form, would be found out late."""
    stage = Spelling(language="de", dictionary="words.txt", min_count=10)
    data = batch(["Der strase entlang, selten seltan."], language=["de"])
    assert texts(stage.bind({"dictionary": b"strasse 100\nselten 5\n"})(data)) == [
        "Der strasse entlang, selten seltan."
    ]
    with pytest.raises(ValueError, match="dictionary: line 2 should be a word"):
        stage.bind({"dictionary": b"strasse 100\nselten\n"})
    with pytest.raises(ValueError, match="dictionary: must be set for language 'de'"):
        Spelling(language="de")
