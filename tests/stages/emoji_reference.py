"""Where the emoji of a text are, in plain Python: the longest entries of the emoji package's table."""

from __future__ import annotations

import emoji
import regex

from stages.emoji_names.table import _meant

ZWJ = "\u200d"


LONGEST = max(map(len, emoji.EMOJI_DATA))


def entry(text: str, at: int) -> str:
    """The longest entry of the table that begins here; else a pair of letters that is no flag, or one character."""
    for size in range(LONGEST, 0, -1):
        if text[at : at + size] in emoji.EMOJI_DATA:
            return text[at : at + size]
    flag = regex.match("[\U0001f1e6-\U0001f1ff]{2}", text[at : at + 2])
    return flag[0] if flag else text[at]


def found(text: str) -> list[tuple[int, int, str, bool]]:
    """The emoji of a text: start, end, entry, and whether a joiner binds it to the one before."""
    results: list[tuple[int, int, str, bool]] = []
    at = 0
    while at < len(text):
        symbol = entry(text, at)
        end = at + len(symbol)
        if symbol not in emoji.EMOJI_DATA or not _meant(symbol) or text[end : end + 1] == "\ufe0e":
            at = end
            continue
        while text[end : end + 1] and (text[end] in "\ufe0e\ufe0f" or 0xE0020 <= ord(text[end]) <= 0xE007F):
            end += 1
        joined = bool(results) and results[-1][1] == at and text[at - 1] == ZWJ
        end += text[end : end + 1] == ZWJ
        results.append((at, end, symbol, joined))
        at = end
    return results
