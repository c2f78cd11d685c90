"""Dates as pages write them: ISO 8601 and its near misses, RFC 5322, and dates with the English name of a month.

A day and month in figures are read only where there is no doubt which is which. No time zone is applied: a date is
what the page says it is at its own place.
"""

from __future__ import annotations

import re
from datetime import datetime

_MONTHS = {
    name: number
    for number, names in enumerate(
        "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|september sept sep|october oct"
        "|november nov|december dec".split("|"),
        1,
    )
    for name in names.split()
}
_CLOCK = r"(?:[T ,]+(?:at )?([01]?\d|2[0-3]):?([0-5]\d)(?::?([0-5]\d))?)?"
_MONTH, _DAY, _YEAR = "(1[0-2]|0?[1-9])", "(3[01]|[12]\\d|0?[1-9])", "((?:19|20)\\d\\d)"
_YEAR_FIRST = re.compile(rf"\b{_YEAR}(?:([-/.]){_MONTH}\2{_DAY}|(1[0-2]|0[1-9])(3[01]|[12]\d|0[1-9]))(?!\d){_CLOCK}")
_CJK = re.compile(rf"{_YEAR} ?[年년] ?{_MONTH} ?[月월] ?{_DAY} ?[日일]")
_NAMES = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY_NAMED = re.compile(rf"\b{_DAY}(?:st|nd|rd|th|\.)?[ -](?:of )?({_NAMES})\.?,?[ -]{_YEAR}\b{_CLOCK}", re.I)
_NAMED_DAY = re.compile(rf"\b({_NAMES})\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR}\b{_CLOCK}", re.I)
_DOTTED = re.compile(rf"\b{_DAY}\.{_MONTH}\.{_YEAR}\b{_CLOCK}")
_SLASHED = re.compile(rf"\b(\d\d?)[/-](\d\d?)[/-]{_YEAR}\b{_CLOCK}")
FIRST_YEAR = 1990
_LONGEST = 200  # characters that a date is looked for in


def parse(text: str) -> datetime | None:
    """The first date in a text (at most 200 characters of it), without a time zone; None where there is none.

    Years before 1990 are none: no page is that old.
    """
    text = text[:_LONGEST]
    if match := _YEAR_FIRST.search(text):
        year, _, month, day, packed_month, packed_day, *clock = match.groups()
        return _made(year, month or packed_month, day or packed_day, clock)
    if match := _DAY_NAMED.search(text):
        day, name, year, *clock = match.groups()
        return _made(year, str(_MONTHS[name.lower()]), day, clock)
    if match := _NAMED_DAY.search(text):
        name, day, year, *clock = match.groups()
        return _made(year, str(_MONTHS[name.lower()]), day, clock)
    if match := _CJK.search(text):
        return _made(*match.groups(), clock=[])
    if match := _DOTTED.search(text):
        day, month, year, *clock = match.groups()
        return _made(year, month, day, clock)
    if match := _SLASHED.search(text):
        first, second, year, *clock = match.groups()
        if int(first) > 12 or first == second:
            return _made(year, second, first, clock)
        if int(second) > 12:
            return _made(year, first, second, clock)
    return None


def _made(year: str, month: str, day: str, clock: list[str | None]) -> datetime | None:
    try:
        made = datetime(int(year), int(month), int(day), *(int(part or 0) for part in clock))
    except ValueError:  # the 31st of a shorter month
        return None
    return made if made.year >= FIRST_YEAR else None
