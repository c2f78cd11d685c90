"""Counts of a text that quality rules are made of. Integers only, so that no rule hangs on a rounding."""

from __future__ import annotations

from typing import NamedTuple

import regex

from stages.words import tokens

_ELLIPSIS = regex.compile(r"…+|\.\.\.")  # "……" is one ellipsis in Chinese typography
_BULLET = regex.compile(r"[ \t]*[-*+•‣⁃◦▪●○■□·・∙➢►※](?![-*+])")
_ELLIPSIS_END = regex.compile(r"(?:…|\.\.\.|\. \. \.)[\s\"'”’」』)）]*$")
_LETTER = regex.compile(r"\p{Alphabetic}")


class Statistics(NamedTuple):
    """What a text holds; lengths in code points, lines are those that are not blank."""

    words: int
    """Words, see `stages.words.tokens`."""
    spaced_words: int
    """Words between blanks: `words` less the characters of scripts without spaces."""
    spaced_length: int
    """Code points of the words between blanks, punctuation included."""
    letter_words: int
    """Words with at least one alphabetic character."""
    hashes: int
    """`#` signs."""
    ellipses: int
    """`...` and `…`."""
    lines: int
    bullet_lines: int
    """Lines that begin with a bullet."""
    ellipsis_lines: int
    """Lines that end with an ellipsis, before closing quotes and brackets."""


def statistics(text: str) -> Statistics:
    """The counts of one text."""
    spaced, single = tokens(text)
    lines = [line for line in text.split("\n") if line.strip()]
    return Statistics(
        words=len(spaced) + len(single),
        spaced_words=len(spaced),
        spaced_length=sum(map(len, spaced)),
        letter_words=sum(1 for word in spaced + single if word.isalpha() or _LETTER.search(word)),
        hashes=text.count("#"),
        ellipses=len(_ELLIPSIS.findall(text)),
        lines=len(lines),
        bullet_lines=sum(1 for line in lines if _BULLET.match(line)),
        ellipsis_lines=sum(1 for line in lines if _ELLIPSIS_END.search(line)),
    )
