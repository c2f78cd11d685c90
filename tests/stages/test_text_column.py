"""Edits by byte spans, and the tables of characters that kernels use."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from stages.text import characters
from stages.text.column import Edits, edited, texts
from stages.words import SPACELESS, fold

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NONE = Edits(*(np.zeros(0, np.int64) for _ in Edits._fields))


def edits_of(rows: list[tuple[int, int, int, int]]) -> Edits:
    return Edits(*np.array(rows, np.int64).reshape(-1, 4).T)


@given(st.lists(st.none() | TEXT, max_size=6), st.integers(0, 3), st.data())
def test_edits_are_what_slicing_makes(values: list[str | None], skip: int, data: st.DataObject) -> None:
    """Else every stage that cuts or replaces text would damage what stands beside it."""
    column = pa.array(values, pa.string())[skip:]
    values = values[skip:]
    view = texts(column)
    assert [
        bytes(view.data[a:b]).decode() if valid else None
        for a, b, valid in zip(view.offsets, view.offsets[1:], view.valid, strict=False)
    ] == values
    found, wanted = [], list(values)
    for row, value in enumerate(values):
        places = sorted(data.draw(st.lists(st.integers(0, len(value or "")), max_size=4)))
        for start, end in reversed(list(zip(places[::2], places[1::2], strict=False))):
            which = data.draw(st.integers(0, 1))
            text = wanted[row] or ""
            if value is not None:
                wanted[row] = text[:start] + ("", "雪")[which] + text[end:]
                found.append((row, len(value[:start].encode()), len(value[:end].encode()), which))
    if found:
        result = edited(column, edits_of(sorted(found)), [b"", "雪".encode()])
        result.validate(full=True)
        assert result.to_pylist() == wanted
    assert edited(column, NONE) is column


@pytest.mark.parametrize("rows", [[(0, 3, 2, 0)], [(0, 0, 9, 0)], [(0, 2, 3, 0), (0, 1, 2, 0)], [(1, 0, 1, 0)] * 2])
def test_edits_that_cannot_be_are_refused(rows: list[tuple[int, int, int, int]]) -> None:
    """Else a stage's mistake would show as broken text much later."""
    with pytest.raises(ValueError, match="out of order or outside"):
        edited(pa.array(["abcd", "ef"]), edits_of(rows))


def test_classes_are_those_of_the_patterns() -> None:
    """Else kernels and patterns would part words in different places."""
    table, text = characters.classes(), characters.every_code()
    for bit, pattern in ((characters.LETTER, r"\p{L}"), (characters.SPACELESS, f"[{SPACELESS}]")):
        found = np.zeros(characters.CODES, np.bool_)
        for match in regex.finditer(pattern, text):
            found[match.start()] = True
        assert np.array_equal(table & bit != 0, found)
    assert [code for code in range(characters.CODES) if table[code] & characters.BLANK] == [
        code for code in range(characters.CODES) if chr(code).isspace()
    ]


@given(TEXT)
def test_texts_fold_code_point_by_code_point_where_the_table_says_so(text: str) -> None:
    """Else a word list would miss words, or find others, in scripts whose letters are composed."""
    table = characters.folds()
    codes = [int(table[ord(character)]) for character in text]
    if characters.NOT_ALONE not in codes:
        assert "".join(map(chr, codes)) == fold(text)


def test_nothing_is_assigned_outside_the_ranges_that_are_looked_at() -> None:
    """Else characters of a later Unicode would count as no letters, no marks and no punctuation."""
    text = characters.every_code()
    ends = [0, *(end for both in characters.TAKEN for end in both), characters.CODES]
    for begin, end in zip(ends[::2], ends[1::2], strict=True):
        assert regex.search(r"[^\p{Cn}\p{Co}]", text, pos=begin, endpos=end) is None
