"""Look-alike letters are folded to one script, for matching alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import DATA

from stages.text.characters import NOT_ALONE, folds
from stages.text.confusables import FILE, GONE, SCRIPTS, skeleton, skeletons

CONFUSABLES = (DATA / FILE.removeprefix("builtin:")).read_bytes()
TABLES = {script: skeletons(CONFUSABLES, script) for script in SCRIPTS}


@pytest.mark.parametrize(
    ("text", "script", "wanted"),
    [
        ("dаmn DАMN d\u200bamn da\u00admn", "Latin", "damn damn damn damn"),  # Cyrillic а, А
        ("𝐝𝓪𝕞𝗻 ｄａｍｎ ⓓⓐⓜⓝ", "Latin", "damn damn damn"),
        ("mоrоn ΜΟRΟΝ", "Latin", "moron moron"),
        ("cука СУКА", "Cyrillic", "сука сука"),  # Latin c
        ("Mill 10 I|l rn m", "Latin", "mill 10 i|l rn m"),
        ("日本語 ไทย हिन्दी 한국어", "Latin", "日本語 ไทย हिन्दी 한국어"),
    ],
)
def test_letters_that_look_alike_are_one(text: str, script: str, wanted: str) -> None:
    """A word list would miss every word with one letter of another script."""
    assert skeleton(text, TABLES[script]) == wanted


def test_digits_and_signs_become_letters_by_choice() -> None:
    """Numbers would be matched as words, or spellings in digits be missed."""
    assert skeleton("m0r0n a$$ 1,000", TABLES["Latin"]) == "m0r0n a$$ 1,000"
    assert skeleton("m0r0n a$$", skeletons(CONFUSABLES, leet=True)) == "moron ass"
    with pytest.raises(ValueError, match="no table folds to the script 'Arabic'"):
        skeletons(CONFUSABLES, "Arabic")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_scripts_own_words_are_folded_as_ever(script: str) -> None:
    """A word list would no longer match its own language."""
    words = {"Latin": "Straße Ñandú İzmir vợ façade", "Cyrillic": "СъЕШЬ Ещё этих Їжак", "Greek": "Ξεσκεπάζω ΤΗΝ"}
    fold = folds()
    for letter in words[script]:
        wanted = letter if fold[ord(letter)] == NOT_ALONE else chr(fold[ord(letter)])
        assert skeleton(letter, TABLES[script]) == wanted


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(SCRIPTS))
def test_tables_give_letter_for_letter_and_are_stable(text: str, script: str) -> None:
    """A kernel that looks letters up would write outside of its buffer, or two passes would differ."""
    table = TABLES[script]
    once = skeleton(text, table)
    assert len(once) == sum(int(table[ord(letter)]) != GONE for letter in text)
    assert skeleton(once, table) == once
