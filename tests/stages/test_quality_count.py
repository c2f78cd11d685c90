"""The counts that quality rules rest on, against plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import quality_reference as reference
from hypothesis import example, given
from hypothesis import strategies as st

from stages.quality.count import count
from stages.quality.fields import FIELDS
from stages.text.column import texts

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
LIKELY = st.lists(
    st.sampled_from(
        [
            *"aAbß.!?…#-*•\n\n\n  '\")」“«。！々字的ーカ한글กี่ा़ॐ1２٣_\u200d\u0301\u3000\t\x1c\x85,:{",
            "ab ",
            "the ",
            "...",
            ". . .",
            "我们",
        ]
    ),
    max_size=80,
).map("".join)


def one(text: str) -> dict[str, int]:
    return dict(zip(FIELDS, count(texts(pa.array([text])))[0].tolist(), strict=True))


@given(st.one_of(ANY, LIKELY))
@example('He said "Go." Then J. R. left... 他说。好！\n\n- one\n- one\n* * *\nwait . . .')
@example("„Er ging.“ Sie blieb. »Ja.« sagte er. “Oh…“")
@example("a b a b a b a b a b a b a b a b a b a b a b a b")
@example("เขาไปที่ตลาด ครับ ๑๒๓ 〇 二〇二六年")
def test_counts_are_those_of_plain_python(text: str) -> None:
    """Else a document would be judged by something other than what the rule says."""
    assert one(text) == reference.counts(text)


@given(st.lists(st.none() | LIKELY, max_size=5), st.integers(0, 2))
def test_a_row_is_counted_alone(values: list[str | None], skip: int) -> None:
    """Else what becomes of a document would hang on the batch that it came in."""
    table = count(texts(pa.array(values, pa.string())[skip:]))
    for row, value in zip(table, values[skip:], strict=True):
        assert dict(zip(FIELDS, row.tolist(), strict=True)) == (one(value) if value else dict.fromkeys(FIELDS, 0))


@pytest.mark.parametrize(
    "text", ["a" * 300_000, "\n" * 100_000, "字" * 100_000, "a " * 100_000, "." * 100_000, "\0" * 9]
)
def test_texts_of_one_character_are_counted(text: str) -> None:
    """Else a worthless page would stop a run."""
    row = one(text)
    assert row["characters"] == len(text)
    assert min(row.values()) >= 0
    assert max(row["repeated_5"], row["repeated_line_length"], row["line_length"]) <= len(text)


def test_field_numbers_are_those_of_their_names() -> None:
    """Else a rule would look at another figure than it names."""
    from stages.quality import fields

    assert [getattr(fields, name.upper()) for name in FIELDS] == list(np.arange(len(FIELDS)))
