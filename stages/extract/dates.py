"""Dates as pages write them: ISO 8601 and its near misses, RFC 5322, and dates with the name of a month.

No time zone is applied: a date is what the page says it is at its own place.
"""

from __future__ import annotations

import re
from datetime import datetime

from stages.extract import months

FIRST_YEAR = 1990
_LONGEST = 200  # characters that a date is looked for in
_CLOCK = r"(?:[T ,]+(?:at )?([01]?\d|2[0-3]):?([0-5]\d)(?::?([0-5]\d))?)?"
_MONTH, _DAY, _YEAR = "(1[0-2]|0?[1-9])", "(3[01]|[12]\\d|0?[1-9])", "((?:19|20)\\d\\d)"
_NAME = f"({months.WORD.pattern})"
_OF = r"(?:(?:de|di|del|do|da|of|den) )?"

_YEAR_FIRST = re.compile(
    rf"\b{_YEAR}(?:([-/.]) ?{_MONTH}\2 ?{_DAY}|(1[0-2]|0[1-9])(3[01]|[12]\d|0[1-9]))(?!\d){_CLOCK}"
)
_CJK = re.compile(rf"{_YEAR} ?[年년] ?{_MONTH} ?[月월] ?{_DAY} ?[日일]")
_DAY_NAMED = re.compile(
    rf"\b{_DAY}(?:st|nd|rd|th|er|\.|º|ª)?[ -]{{0,2}}{_OF}{_NAME}\.?,?[ -]{{1,2}}{_OF}{_YEAR}\b{_CLOCK}", re.I
)
_NAMED_DAY = re.compile(rf"\b{_NAME}\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR}\b{_CLOCK}", re.I)
_YEAR_NAMED = re.compile(rf"\b{_YEAR}\.? (?:m\. )?{_NAME}\.? {_DAY}\b(?!:)", re.I)  # Hungarian, Lithuanian
_DOTTED = re.compile(rf"\b{_DAY}\. ?{_MONTH}\. ?{_YEAR}\b{_CLOCK}")
_FIGURES = re.compile(rf"\b(\d\d?)([/-])(\d\d?)\2{_YEAR}\b{_CLOCK}")


def parse(text: str, language: str = "") -> datetime | None:
    """The first date in a text (at most 200 characters of it), without a time zone; None where there is none.

    `language` is the page's, as in `en-US`: it says whether 7/5/2019 begins with the day or with the month. English
    alone does not, so that such a date is none. Years before 1990 are none: no page is that old.
    """
    text = text[:_LONGEST]
    if match := _YEAR_FIRST.search(text):
        year, _, month, day, packed_month, packed_day, *clock = match.groups()
        return _made(year, month or packed_month, day or packed_day, clock)
    if match := _DAY_NAMED.search(text):
        day, name, year, *clock = match.groups()
        if number := months.NUMBER.get(name.lower()):
            return _made(year, number, day, clock)
    if match := _NAMED_DAY.search(text):
        name, day, year, *clock = match.groups()
        if number := months.NUMBER.get(name.lower()):
            return _made(year, number, day, clock)
    if match := _CJK.search(text):
        year, month, day = match.groups()
        return _made(year, month, day)
    if match := _DOTTED.search(text):
        day, month, year, *clock = match.groups()
        return _made(year, month, day, clock)
    if match := _FIGURES.search(text):
        first, _, second, year, *clock = match.groups()
        month, day = (first, second) if _month_first(int(first), int(second), language) else (second, first)
        if int(day) <= 12 and day != month and language.lower() in ("", "en"):
            return None
        return _made(year, month, day, clock)
    if match := _YEAR_NAMED.search(text):
        year, name, day = match.groups()
        if number := months.NUMBER.get(name.lower()):
            return _made(year, number, day)
    return None


def _month_first(first: int, second: int, language: str) -> bool:
    if first > 12 or second > 12:
        return second > 12
    return language.lower().replace("_", "-") == "en-us"


def _made(year: str, month: str | int, day: str, clock: list[str | None] | None = None) -> datetime | None:
    hour, minute, second = (int(part or 0) for part in clock or (None, None, None))
    try:
        made = datetime(int(year), int(month), int(day), hour, minute, second)
    except ValueError:  # the 31st of a shorter month
        return None
    return made if made.year >= FIRST_YEAR else None
