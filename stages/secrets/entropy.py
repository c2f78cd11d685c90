"""Whether a string is random, or stands in for a secret in a manual; in integers, so that no machine differs."""

from __future__ import annotations

import itertools
from collections import Counter

import regex

_STAND_IN = regex.compile(
    r"example|sample|placeholder|dummy|redacted|insert|change_?me|replace|foobar|secret_?key|api_?key|access_?token|passw"
    r"|(?:your|fake|todo|here|test)[-_ ]|p@ssw|1234567|0123456|abcdef(?![0-9a-f])|qwerty|hunter2|letmein|lorem|deadbeef"
    r"|(.)\1{4}|(..)\2{3}|(...)\3{3}|\.\.\.|…|\*\*|\$\{|\$\(|%\(|\{\{|^\$\w+$|^%\w+%$"
    r"|^(?:pass|pwd|secret|token|user|root|admin|test|none|null|true|false|string)\d{0,4}$",
    regex.I,
)


def is_stand_in(text: str) -> bool:
    """Whether the string says of itself that it is no secret: `AKIAIOSFODNN7EXAMPLE`, `xxxxxxxx`, `${TOKEN}`."""
    return _STAND_IN.search(text) is not None


def is_random(text: str, alphabet: int) -> bool:
    """Whether two letters of the string are equal no more often than among `alphabet` letters, and do not climb.

    The collision (Rényi) entropy of order 2, as integers: n (n - 1) >= alphabet * sum of c (c - 1) over the counts c.
    Half of the steps being to the next letter (`ghijkl`) is no chance either.
    """
    size = len(text)
    same = sum(count * (count - 1) for count in Counter(text).values())
    climbs = sum(ord(after) - ord(before) == 1 for before, after in itertools.pairwise(text))
    return size >= 8 and size * (size - 1) >= alphabet * same and 2 * climbs < size
