"""What a word is, in every script: shared by statistics, shingles and word lists.

Scripts that put no spaces between words give one word for each character (with its marks), as Unicode's
default word boundaries leave them to dictionaries (UAX #29, section 4.1; Line_Break classes ID and SA of
UAX #14). Everywhere else blanks, and for `words` punctuation too, part words.
"""

from __future__ import annotations

import regex

from stages.text.forms import normalized

_SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Ahom Yi Nushu "
    "Tangut Javanese Balinese"
)
SPACELESS = "".join(rf"\p{{Script={script}}}" for script in _SCRIPTS.split()) + "\u30fc\uff70"
"""Inside of a `regex` set: letters of scripts without spaces between words (and the kana length mark)."""

_SPACELESS = regex.compile(rf"[[{SPACELESS}]&&[\p{{L}}\p{{N}}]]\p{{M}}*", regex.V1)
_HAS_SPACELESS = regex.compile(rf"[{SPACELESS}]", regex.V1)
# Zero-width (non-)joiners part no word: Persian and Indic scripts write them inside words.
_WORD = regex.compile(
    rf"(?P<one>[[{SPACELESS}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)"
    rf"|[[\p{{L}}\p{{N}}\p{{Pc}}]--[{SPACELESS}]][[\p{{L}}\p{{N}}\p{{Pc}}\p{{M}}\u200c\u200d]--[[{SPACELESS}]&&\p{{L}}]]*",
    regex.V1,
)
_PIECE = regex.compile(
    rf"(?P<one>[[{SPACELESS}]&&[\p{{L}}\p{{N}}]]\p{{M}}*[^\p{{L}}\p{{N}}]*)|[^{SPACELESS}]+|.", regex.V1 | regex.S
)


def words(text: str) -> list[str]:
    """Runs of letters, digits, marks and connectors; one word a character in scripts without spaces."""
    return [match.group() for match in _WORD.finditer(text)]


def tokens(text: str) -> tuple[list[str], list[str]]:
    """What Gopher counts as words: those between blanks, and the characters of scripts without spaces.

    English and its like: what stands between blanks, punctuation included (Rae et al. 2021 count so, as
    their rule on words without letters shows). Scripts without spaces: each character, with the
    punctuation behind it.
    """
    spaced: list[str] = []
    single: list[str] = []
    for token in text.split():
        if token.isascii() or not _HAS_SPACELESS.search(token):
            spaced.append(token)
            continue
        for match in _PIECE.finditer(token):
            (spaced if match["one"] is None else single).append(match.group())
    return spaced, single


def fold(text: str) -> str:
    """The text as two texts are compared: NFKC and case folded (nearly Unicode's NFKC_Casefold)."""
    return normalized(normalized(text, "NFKC").casefold(), "NFKC")


def is_spaceless(text: str) -> bool:
    """Whether the text has a letter of a script without spaces between words."""
    return not text.isascii() and _SPACELESS.search(text) is not None
