"""Phone numbers: what a numbering plan allows, or a word beside it names."""

from __future__ import annotations

import itertools

import regex

from stages.pii.cues import AFTER, BEFORE, PHONE, PHONE_AFTER, before, hinted, named, other
from stages.pii.found import Found
from stages.pii.network import V4
from stages.pii.plans import american, fictional, international, mobile, national

SEPARATORS = frozenset(["", " ", "-", ".", "/", ") ", ")", " (", "(", "-(", ")-", " - ", " / ", ") - "])
_EXTENSION = regex.compile(r" ?(?:x|ext\.?|extension|доб\.?|转|轉|内線|#) ?\d{1,6}(?!\d)", regex.I)
_DATE = regex.compile(
    r"(?:1[4-9]|20|21)\d\d(?P<s>[ ./-])(?:0?[1-9]|1[0-2])(?P=s)(?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])(?P<t>[ ./-])(?:0?[1-9]|[12]\d|3[01])(?P=t)(?:1[4-9]|20|21)\d\d(?!\d)"
    r"|(?:1[4-9]|20)\d\d ?[-/ ] ?(?:1[4-9]|20)\d\d(?!\d)"
)
_DECIMAL = regex.compile(r"\d{1,2}\.\d+|\d+\.\d{1,2}|\d+\.\d{5,}")
_HAN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_GLUED = regex.compile(r"[A-Za-z0-9_]")
_ALNUM = regex.compile(r"[A-Za-z0-9]")
_UNITS = regex.compile(r" ?(?:[%€$£¥元円원人年月]|(?:km|kg|mm|cm|bytes?|px|ms|people|habitante?s|Einwohner)\b)")
_IBAN_BLOCKS = regex.compile(r"(?<![A-Za-z0-9])[a-z]{2}\d{2}[ -](?:[a-z0-9]{4}[ -])*$")


def phone(text: str, groups: list[tuple[int, int]], regions: tuple[str, ...]) -> Found | None:
    """The phone number that begins with the first of these groups of digits, where there is one: the longest.

    Written with `+`, or `00` and separators: a number that its country's plan allows, or with a word beside it that
    says phone. In the national form: by the plan of `regions`, grouped as there; or any seven to thirteen digits with
    such a word. Dates, years, prices, rows of numbers and numbers that are named otherwise are none.
    """
    start = begin = groups[0][0]
    plus = start > 0 and text[start - 1] == "+"
    opened = start > 0 and text[start - 1] == "("
    if plus or opened:
        begin -= 1
        if opened and begin and text[begin - 1] == "+":
            begin, plus = begin - 1, True
    if begin and _bound_before(text, begin, plus):
        return None
    row = not plus and start >= 2 and text[start - 1] == " " and text[start - 2].isdigit()
    if row and (len(groups) == 1 or text[groups[0][1]] == " "):
        return None  # a row of numbers; one in it must be held together by other signs than the row
    left: str | None = None
    sure = False
    sizes = list(itertools.accumulate(end - first for first, end in groups))
    for count in range(len(groups), 0, -1):
        end = groups[count - 1][1]
        number = text[start:end]
        if not 7 <= sizes[count - 1] <= 17 or (opened and ")" not in number):
            continue
        if _bound_after(text, end) and not _EXTENSION.match(text, end):
            continue
        if "." in number and " " in number and ")" not in number:  # decimals in a row
            continue
        if _DATE.match(number) or _DECIMAL.fullmatch(number) or V4.fullmatch(number):
            continue
        digits = "".join(text[a:b] for a, b in groups[:count])
        if len(set(digits)) < 3 or fictional(digits):
            continue
        if left is None:
            left = before(text, begin)
            sure = named(left, PHONE)
        found: str | None = None
        if sure or PHONE_AFTER.match(text, end, end + AFTER):
            found = international(digits, number, plus, True) or (digits if len(digits) <= 13 and not plus else None)
        elif plus:
            found = international(digits, number, plus, False)
        elif not _UNITS.match(text, end) and not _IBAN_BLOCKS.search(left):
            found = _unnamed(text, begin, end, number, digits, [b - a for a, b in groups[:count]], regions, left)
        if found is not None:
            extension = _EXTENSION.match(text, end)
            return Found("phone", begin, extension.end() if extension else end, found)
    return None


def _unnamed(
    text: str, begin: int, end: int, number: str, digits: str, lengths: list[int], regions: tuple[str, ...], left: str
) -> str | None:
    """The digits of a number in national form that no word names."""
    if number.isdigit():
        beside = text[max(0, begin - BEFORE) : end + AFTER]
        return digits if mobile(number, regions) and other(left) < 0 and _HAN.search(beside) else None
    otherwise = other(left)
    if american(number):
        return digits if otherwise < 0 else None
    if _listed(text, begin, end):
        return None
    if hinted(left) and len(digits) <= 13:
        return digits
    if otherwise >= 0:
        return None
    return international(digits, number, False, False) or (
        digits if national(digits, number, lengths, regions) else None
    )


def _bound_before(text: str, begin: int, plus: bool) -> bool:
    """Whether the sign before a number binds it to a digit or letter before that, or is arithmetic."""
    sign = text[begin - 1]
    if _GLUED.match(sign):
        return True
    if sign in "+*\\":
        return True
    previous = text[begin - 2 : begin - 1] if begin >= 2 else ""
    if sign in ":/":  # `Tel:123`, `tel:/123`; but not a port, a time or a path
        return previous.isdigit() or (sign == "/" and previous not in ("", " ", ":", "/"))
    return sign in "-.," and (previous.isdigit() or (not plus and sign != "," and _ALNUM.match(previous) is not None))


def _bound_after(text: str, end: int) -> bool:
    if _GLUED.match(text, end):
        return True
    return end + 1 < len(text) and text[end] in "-./:,+*=@" and "0" <= text[end + 1] <= "9"


def _listed(text: str, begin: int, end: int) -> bool:
    """Whether the number is but a part of a row of numbers: another stands right beside it."""
    ahead, after = text[max(0, begin - 2) : begin], text[end : end + 2]
    return (ahead[1:] == " " and ahead[0].isdigit()) or (after[:1] == " " and after[1:].isdigit())
