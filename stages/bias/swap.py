"""A text with its identity terms swapped for their counterparts."""

from __future__ import annotations

import regex

_NEXT = regex.compile(r"\s+(\p{L}+)")
_HERS = {"her": ("his", "him"), "his": ("her", "hers"), "him": ("her", "her"), "hers": ("his", "his")}
_NO_NOUN = frozenset(
    "a about after again all already and any anything are around as at away back be because been before being "
    "both but by can could did do does down during even every for from had has have he her here his how i if "
    "immediately in into is it just last later may might more much my next no not now of off on once one only "
    "onto or our out over quickly right she should since so some something soon still than that the their them "
    "then there these they this those through to today together tomorrow tonight too toward towards until up "
    "was we well were what when where whether which while who why will with without would yesterday yet you "
    "your".split()
)
"""Words before which `her` is no possessive."""


def counterpart(found: str, text: str, end: int, other: str) -> str:
    """What is put in place of `found`, which ends at `end` of the text: `other`, or for English `her` and `his` what
    the next word asks for; in capitals as `found` is."""
    key = found.lower()
    if key in _HERS:
        following = _NEXT.match(text, end)
        other = _HERS[key][not following or following[1].lower() in _NO_NOUN]
    if len(found) > 1 and found.isupper():
        return other.upper()
    return other[:1].upper() + other[1:] if found[:1].isupper() else other
