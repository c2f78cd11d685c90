"""Emoji to their names in the document's language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import regex

from stages.base import Outcome, Processor, Stage
from stages.emoji_names.find import Found, find
from stages.emoji_names.table import names, trie
from stages.rows import Drop, outcome, strings
from stages.text.column import Edits, edited, texts
from stages.words import is_spaceless

LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
"""Languages that the emoji package has CLDR names for."""

_OPENING = regex.compile(r"[\p{Ps}\p{Pi}\"'/¿¡-]$")
_CLOSING = regex.compile(r"^[\p{Pe}\p{Pf}\"'/.,;:!?…،؛؟。，、；：！？-]")


@dataclass(frozen=True, kw_only=True)
class Emoji(Stage):
    """Replaces emoji by their Unicode CLDR names in the document's language, or shortcodes, or nothing.

    The language is that of the column `language`; where it is empty or the emoji package has no names in it,
    `fallback_language` is used. Digits, `#`, ©, ®, ™ and joiners between letters stay as they are. Counts
    `emoji_replaced`. A text of which nothing is left (mode `remove`) is dropped as `empty_text`.
    """

    name: ClassVar[str] = "emoji"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("emoji", "regex")

    mode: Literal["name", "shortcode", "remove", "keep"] = "name"
    """`name`: `I❤️you` to `I red heart you`; `shortcode`: to `I:red_heart:you`; `remove`; `keep`: do nothing."""
    fallback_language: Literal["ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh"] = (
        "en"
    )
    """Language of the names for documents of unknown language, or of one that has no names."""
    emoticons: bool = False
    """Treat emoticons of plain text as the emoji that they stand for: `:-)`, `;)`, `<3` and some sixty others, where
    blanks, ends of text or Chinese, Japanese or Thai letters stand around them. Off: in text on programming and
    mathematics some of them mean something else."""

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        """Makes the table's arrays, a twentieth of a second."""
        if self.mode != "keep":
            trie(self.emoticons)
        return self.process

    def process(self, batch: pa.RecordBatch) -> Outcome:
        column = batch.column("text")
        view = texts(column)
        drops: list[Drop] = [(row, "no_text", None, None) for row in np.flatnonzero(~view.valid).tolist()]
        if self.mode == "keep":
            return outcome(batch, drops)
        found = find(view, trie(self.emoticons), self.emoticons)
        if not len(found.rows):
            return outcome(batch, drops)
        edits, replacements = self._edits(found, strings(batch, "language"))
        new = edited(column, edits, replacements)
        if self.mode == "remove":
            rows = np.unique(found.rows).tolist()
            drops += [(row, "empty_text", None, None) for row in rows if not new[row].as_py().strip()]
        replaced = len(found.rows) - int(found.joined.sum())
        return outcome(batch, drops, {"text": new}, {"emoji_replaced": replaced})

    def _edits(self, found: Found, languages: list[str | None]) -> tuple[Edits, list[bytes]]:
        """What takes the place of each emoji."""
        written: dict[tuple[object, ...], int] = {}  # emoji between neighbours: few, however many documents
        replacements: list[str] = []
        which = np.empty(len(found.rows), np.int64)
        row_before, end_before, behind, language = -1, -1, "", ""
        places = [*zip(found.rows.tolist(), found.starts.tolist(), strict=True), (-1, -1)]
        for number, (row, start, end, entry, before, after, _) in enumerate(
            zip(*(part.tolist() for part in found), strict=True)
        ):
            if row != row_before:
                language = _known(languages[row]) or self.fallback_language
            # Behind another emoji stands the name of that one.
            left = behind if row == row_before and start == end_before else chr(before) if before else ""
            met = places[number + 1] == (row, end)
            key = (entry, left, after, met, language)
            if key not in written:
                written[key] = len(replacements)
                name = names(language, self.emoticons)[entry]
                replacements.append(self._written(name, left, chr(after) if after else "", met, language))
            which[number] = written[key]
            row_before, end_before, behind = row, end, replacements[written[key]][-1:] or left
        edits = Edits(found.rows, found.starts, found.ends, which)
        return edits, [text.encode() for text in replacements]

    def _written(self, name: str, before: str, after: str, met: bool, language: str) -> str:
        """The name with the blanks that it needs between its neighbours; `met` says that an emoji follows."""
        if self.mode == "shortcode":
            return f":{name}:"
        if self.mode == "remove":
            return " " if not met and _glues(before, after, spaced=False) else ""
        spaced = language not in ("zh", "ja")
        name = name.replace("_", " " if spaced else "")
        left = " " if _glues(before, name[0], spaced) and not (spaced and _OPENING.search(before)) else ""
        # An emoji that follows puts the space on its own left.
        right = ""
        if not met and _glues(name[-1], after, spaced):
            right = "" if spaced and _CLOSING.search(after) else " "
        return left + name + right


def _known(language: str | None) -> str | None:
    """The language of names for a document in `language`, such as `zh-CN`; None where there are no names."""
    code = (language or "").lower().replace("_", "-").split("-")[0]
    return code if code in LANGUAGES else None


def _glues(left: str, right: str, spaced: bool) -> bool:
    """Whether two neighbours need a blank between them."""
    if not left or not right or left.isspace() or right.isspace():
        return False
    if spaced:
        return True
    return all(side.isalnum() and not is_spaceless(side) for side in (left, right))
