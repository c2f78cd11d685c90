"""All that is found in one text: the types in turn at each place that the scan gives, the first that fits takes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import regex

from stages.pii import mail, network, scan
from stages.pii.cards import SHAPES as CARD_SHAPES
from stages.pii.cards import card, iban
from stages.pii.found import Found, plain
from stages.pii.national import SHAPES, code, national
from stages.pii.phones import SEPARATORS, phone

_LEFT, _AFTER, _RIGHT = 96, 48, 300
"""Code points of context before a place, behind it, and behind an at sign: no rule looks further."""
_DIGITS = regex.compile(r"[0-9]+")
_MOST_GROUPS = 8
_LONGEST = 19
"""Digits of the longest number, a card's."""
_ASCII_LETTER = regex.compile(r"[A-Za-z]")
_WORD = regex.compile(r"[A-Za-z0-9_]")


def find(
    text: str, places: Iterable[tuple[int, int, int]], types: Collection[str], regions: tuple[str, ...]
) -> list[Found]:
    """What is found at these places (start, end, kind) of a text; ascending, without overlap."""
    found: list[Found] = []
    done = 0
    for start, end, kind in places:
        if end <= done:
            continue
        low = max(0, start - _LEFT)
        window = plain(text[low : end + (_RIGHT if kind == scan.AT else _AFTER)])
        here: Iterable[Found | None]
        if kind == scan.AT:
            here = [mail.mail(window, start - low)] if "email" in types else ()
        elif kind == scan.COLONS:
            here = [network.v6(window, start - low, end - low)] if "ip" in types else ()
        elif kind == scan.CODE:
            here = _code(window, start - low, end - low, types)
        else:
            here = _numbers(window, max(start, done) - low, end - low, types, regions)
        for one in here:
            if one is not None and one.start + low >= done:
                found.append(one._replace(start=one.start + low, end=one.end + low))
                done = one.end + low
            elif one is not None and kind == scan.AT and found and one.end + low > done:
                # An address whose first part looked like a number: the address takes it.
                while found and found[-1].end > one.start + low:
                    found.pop()
                found.append(one._replace(start=one.start + low, end=one.end + low))
                done = one.end + low
    return found


def _code(text: str, start: int, end: int, types: Collection[str]) -> Iterable[Found | None]:
    if "iban" in types:
        one = iban(text, start, end)
        if one is not None:
            return [one]
    if "national_id" not in types:
        return ()
    if end - start == 7 and _ASCII_LETTER.match(text, start):  # too few digits for a number, but Hong Kong has them
        return [_closed(text, start, start + 1, end, "A6", {"national_id"})] if text[start + 1 : end].isdigit() else ()
    return [code(text, start, end)]


def _numbers(text: str, start: int, end: int, types: Collection[str], regions: tuple[str, ...]) -> Iterable[Found]:
    """The numbers in a run of digits and separators, from left to right, at each place the longest."""
    groups = [match.span() for match in _DIGITS.finditer(text, start, end)]
    at = 0
    while at < len(groups):
        one = _number(text, groups, at, types, regions)
        if one is None:
            at += 1
            continue
        yield one
        while at < len(groups) and groups[at][0] < one.end:
            at += 1


def _number(
    text: str, groups: list[tuple[int, int]], at: int, types: Collection[str], regions: tuple[str, ...]
) -> Found | None:
    start = groups[at][0]
    if groups[at][1] - start > _LONGEST:
        return None
    if "ip" in types and at + 3 < len(groups) and groups[at + 3][1] - start <= 15:
        address = network.v4(text, start, groups[at + 3][1])
        if address is not None and address.start == start:
            return address
    free = start == 0 or not _binds(text, start)
    letter = "" if start == 0 or not _ASCII_LETTER.match(text, start - 1) else text[start - 1]
    begin = start - 1 if letter else start
    if letter and start >= 2 and _WORD.match(text, start - 2):
        letter = ""
        if not free:
            begin = start
    shape = "A" if letter else ""
    digits = 0
    count = 0
    best: Found | None = None
    for number in range(at, min(at + _MOST_GROUPS, len(groups))):
        a, b = groups[number]
        if number > at:
            between = text[groups[number - 1][1] : a]
            if between not in SEPARATORS and between != "+":
                break
            shape += between
        if digits + b - a > _LONGEST:
            break
        digits += b - a
        shape += str(b - a)
        count += 1
        if digits < 6 or not (free or letter):
            continue
        best = _closed(text, begin, start, b, shape, types) or best
    if best is not None:
        return best
    return phone(text, groups[at : at + count], regions) if "phone" in types and count and digits >= 7 else None


def _closed(text: str, begin: int, start: int, end: int, shape: str, types: Collection[str]) -> Found | None:
    """The card or national number of this shape, if nothing binds it to what follows."""
    follows = text[end : end + 2]
    if follows[:1] and _ASCII_LETTER.match(follows) and not _WORD.match(follows, 1):
        shape, end = shape + "A", end + 1
    elif len(follows) == 2 and follows[0] == "-" and _ASCII_LETTER.match(follows, 1) and not _WORD.match(text, end + 2):
        shape, end = shape + "-A", end + 2
    elif _WORD.match(follows) or (len(follows) == 2 and follows[0] in "-./+,:" and follows[1].isdigit()):
        return None
    if shape.endswith("(1") and follows[:1] == ")":
        end += 1
    elif len(follows) == 2 and follows[0] == "(" and _ASCII_LETTER.match(follows, 1) and text[end + 2 : end + 3] == ")":
        shape, end = shape + "(A", end + 3
    if "card" in types and shape in CARD_SHAPES and begin == start:
        value = "".join(_DIGITS.findall(text, start, end))
        one = card(text, start, end, shape, value)
        if one is not None:
            return one
    return national(text, begin, end, shape) if "national_id" in types and shape in SHAPES else None


def _binds(text: str, start: int) -> bool:
    """Whether what stands before a number makes it a part of something longer."""
    before = text[start - 1]
    if _WORD.match(before) or before == "+":
        return True
    if before in "-./,:+":
        return (
            start >= 2
            and text[start - 2].isascii()
            and text[start - 2].isalnum()
            and not (before in ":" and not text[start - 2].isdigit())
        )
    return False
