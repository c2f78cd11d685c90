"""Documents with too many words of a word list."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import regex
from annotated_types import Ge, Le

from stages.base import Outcome, Processor, Stage
from stages.rows import Drop, outcome, strings
from stages.words import fold, is_spaceless, words

LANGUAGES = (
    "ar", "cs", "da", "de", "en", "eo", "es", "fa", "fi", "fil", "fr", "hi", "hu", "it",
    "ja", "kab", "ko", "nl", "no", "pl", "pt", "ru", "sv", "th", "tlh", "tr", "zh",
)  # fmt: skip
"""Codes that the built-in lists are for."""

_SAME = {"nb": "no", "nn": "no", "tl": "fil", "yue": "zh", "wuu": "zh"}
_PARTS = 1_000_000
_HANGUL = regex.compile(r"^\p{Hangul}{2,}")


@dataclass(frozen=True, kw_only=True)
class Toxicity(Stage):
    """Drops, or tags, documents in which words of a word list are too many.

    The built-in lists are LDNOOBW's (CC-BY-4.0), less entries that are also ordinary words. A document is held
    against the list of its own language alone (column `language`), for an ordinary word of one language is
    a rude one of another; documents in a language without a list are counted as `documents_without_list`.
    Both sides are compared after NFKC and case folding. Words between blanks must match whole; entries in
    scripts without spaces are looked for inside the text, Korean ones at the start of a word (particles
    follow). Writes `toxic_words` (matches) and `toxic_share` (words in matches, per word, in millionths).
    """

    name: ClassVar[str] = "toxicity"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    lists: tuple[str, ...] = ("builtin",)
    """`builtin`: the list of the document's language; `builtin:CODE`: that language's list, on every document;
    anything else: a UTF-8 file with one entry a line, on every document."""
    mode: Literal["drop", "tag"] = "drop"
    """`tag` only writes the columns."""
    max_count: Annotated[int, Ge(0)] = 2
    """Most matches that are let pass whatever their share; a single word condemns no document."""
    max_share: Annotated[float, Ge(0), Le(1)] = 0.01
    """Greatest share of words that belong to matches (`toxic_words`), beyond `max_count` of them."""
    fallback_language: str = ""
    """Language assumed where the column `language` is empty; empty: such documents have no list."""

    def __post_init__(self) -> None:
        for entry in self.lists:
            code = entry.removeprefix("builtin:")
            if entry.startswith("builtin:") and code not in LANGUAGES:
                near = difflib.get_close_matches(code, LANGUAGES, n=1, cutoff=0.5)
                hint = f" Did you mean 'builtin:{near[0]}'?" if near else f" There are: {', '.join(LANGUAGES)}."
                raise ValueError(f"lists: there is no built-in list '{entry}'.{hint}")

    def files(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for number, entry in enumerate(self.lists):
            if entry == "builtin":
                files |= {f"language/{code}": f"builtin:ldnoobw/{code}" for code in LANGUAGES}
            elif entry.startswith("builtin:"):
                code = entry.removeprefix("builtin:")
                files[f"always/{code}"] = f"builtin:ldnoobw/{code}"
            else:
                files[f"file/{number}"] = entry
        if any(entry.split(":")[0] == "builtin" for entry in self.lists):
            files["ordinary"] = "builtin:ldnoobw_ordinary.json"
        return files

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        ordinary: dict[str, list[str]] = json.loads(files.get("ordinary", b"{}"))
        own: dict[str, WordList] = {}
        always: list[WordList] = []
        for role, data in files.items():
            kind, _, code = role.partition("/")
            entries = data.decode("utf-8-sig", "replace").splitlines()
            if kind == "language":
                own[code] = WordList(entries, ordinary.get(code, ()))
            elif kind in ("always", "file"):
                always.append(WordList(entries, ordinary.get(code, ()) if kind == "always" else ()))
        return lambda batch: self._judge(batch, own, always)

    def _judge(self, batch: pa.RecordBatch, own: Mapping[str, WordList], always: list[WordList]) -> Outcome:
        limit = round(self.max_share * _PARTS)
        numbers = np.zeros(batch.num_rows, np.int32)
        shares = np.zeros(batch.num_rows, np.int64)
        drops: list[Drop] = []
        without = 0
        languages = strings(batch, "language")
        for row, text in enumerate(strings(batch, "text")):
            if text is None:
                drops.append((row, "no_text", None, None))
                continue
            language = (languages[row] or self.fallback_language).lower().replace("_", "-").split("-")[0]
            language = _SAME.get(language, language)
            lists = always + ([own[language]] if language in own else [])
            without += not lists
            numbers[row], shares[row] = share(text, lists)
            if self.mode == "drop" and numbers[row] > self.max_count and shares[row] > limit:
                drops.append((row, "toxic_words", int(shares[row]) / _PARTS, self.max_share))
        columns = {
            "toxic_words": pa.array(numbers),
            "toxic_share": pa.array(shares.astype(np.float32) / np.float32(_PARTS)),
        }
        return outcome(batch, drops, columns, {"documents_without_list": without})


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
