"""Word lists held against one text, in plain Python: what `stages.wordlists` must give."""

from __future__ import annotations

from collections.abc import Iterable

import regex

from stages.words import fold, is_spaceless, words

_PARTS = 1_000_000
_HANGUL = regex.compile(r"^\p{Hangul}{2,}")


def share(text: str, lists: Iterable[WordList]) -> tuple[int, int]:
    """Matches of the lists in a text, and the words in them per million words of the text."""
    folded = fold(text)
    found = words(folded)
    number = covered = 0
    for entries in lists:
        matches, size = entries.count(folded, found)
        number += matches
        covered += size
    return number, min(covered * _PARTS // max(len(found), 1), _PARTS)


class WordList:
    """A word list ready for matching."""

    def __init__(self, entries: Iterable[str], ordinary: Iterable[str] = ()) -> None:
        left_out = {fold(entry).strip() for entry in ordinary}
        self.phrases: dict[str, list[tuple[str, ...]]] = {}
        """First word to the entries that begin with it, longest first."""
        inside: set[str] = set()
        for entry in sorted({fold(entry).strip() for entry in entries} - left_out - {""}):
            found = tuple(words(entry))
            if not found or is_spaceless(entry) or _HANGUL.match(entry):
                inside.add(entry)
            else:
                self.phrases.setdefault(found[0], []).append(found)
        for phrases in self.phrases.values():
            phrases.sort(key=lambda phrase: (-len(phrase), phrase))
        ordered = sorted(inside, key=lambda entry: (-len(entry), entry))
        self.inside = regex.compile("|".join(map(_bounded, ordered))) if ordered else None

    def count(self, folded: str, found: list[str]) -> tuple[int, int]:
        """Matches, from left to right, the longest first, and the number of words in them."""
        number = size = 0
        position = 0
        while position < len(found):
            for phrase in self.phrases.get(found[position], ()):
                if tuple(found[position : position + len(phrase)]) == phrase:
                    number += 1
                    size += len(phrase)
                    position += len(phrase) - 1
                    break
            position += 1
        for match in self.inside.finditer(folded) if self.inside else ():
            number += 1
            size += max(len(words(match.group())), 1)
        return number, size


def _bounded(entry: str) -> str:
    """The entry as a pattern that ends neither inside a katakana word (foreign words are written in it, so
    that a short one lies in many a longer) nor inside a character, and begins a Korean word."""
    pattern = regex.escape(entry, literal_spaces=True)
    if regex.match(r"\p{Hangul}", entry):
        return rf"(?<!\p{{Hangul}}){pattern}"
    before = r"(?<![\p{Katakana}ー])" if regex.match(r"[\p{Katakana}ー]", entry) else ""
    after = r"(?![\p{Katakana}ー\p{M}])" if regex.search(r"[\p{Katakana}ー]$", entry) else r"(?!\p{M})"
    return f"{before}{pattern}{after}"
