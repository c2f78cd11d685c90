"""Unicode's normal forms in linear time."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from typing import Literal

import regex

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]
_APART: dict[Form, Literal["NFD", "NFKD"]] = {"NFC": "NFD", "NFKC": "NFKD", "NFD": "NFD", "NFKD": "NFKD"}
_MANY_MARKS = regex.compile(r"\p{M}{32,}+")
_SHORT = 256
"""Characters of a text in which a row of marks costs less than to look for one."""


def normalized(text: str, form: Form) -> str:
    """`unicodedata.normalize`, in linear time: that one orders long rows of marks by insertion, one by one.

    A megabyte of two marks in turn would take it a quarter of an hour.
    """
    if len(text) > _SHORT and not text.isascii() and not _marks().isdisjoint(text[::32]):
        text = _MANY_MARKS.sub(lambda marks: _ordered(marks[0], form), text)
    return unicodedata.normalize(form, text)


@functools.cache
def _marks() -> frozenset[str]:
    """All marks that a row of marks is made of; one row of 32 has one of them at a place that 32 divides."""
    return frozenset(mark for mark in map(chr, range(0x300, 0x20000)) if unicodedata.category(mark)[0] == "M")


def _ordered(marks: str, form: Form) -> str:
    """A row of marks in canonical order (UAX #15, D109), taken apart."""
    parts = [part for mark in marks for part in unicodedata.normalize(_APART[form], mark)]
    rows = itertools.groupby(parts, lambda mark: unicodedata.combining(mark) > 0)
    return "".join("".join(sorted(row, key=unicodedata.combining) if marked else row) for marked, row in rows)
