"""Documents with too many words of a word list."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Le

from stages.base import Outcome, Processor, Rule, Stage, judged, with_column
from stages.rows import strings
from stages.text import confusables
from stages.wordlists import WordLists
from stages.words import fold

LANGUAGES = (
    "ar", "cs", "da", "de", "en", "eo", "es", "fa", "fi", "fil", "fr", "hi", "hu", "it",
    "ja", "kab", "ko", "nl", "no", "pl", "pt", "ru", "sv", "th", "tlh", "tr", "zh",
)  # fmt: skip
"""Codes that the built-in lists are for."""

_SAME = {"nb": "no", "nn": "no", "tl": "fil", "yue": "zh", "wuu": "zh"}
_PARTS = 1_000_000


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
    version: ClassVar[int] = 2
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
    masked: bool = True
    """Find words of four Latin letters and more in masked spellings too: `sh1t`, `f**k`, `fuuuck`, letters of other
    scripts that look the same, characters without width in between."""
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
        if self.masked:
            files["confusables"] = confusables.FILE
        return files

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        ordinary: dict[str, list[str]] = json.loads(files.get("ordinary", b"{}"))
        lists: list[set[str]] = []
        own: dict[str, int] = {}
        always: list[int] = []
        for role, data in files.items():
            kind, _, code = role.partition("/")
            if kind not in ("language", "always", "file"):
                continue
            left_out = {fold(entry).strip() for entry in ordinary.get(code, ())} if kind != "file" else set()
            entries = {fold(entry).strip() for entry in data.decode("utf-8-sig", "replace").splitlines()}
            if kind == "language":
                own[code] = len(lists)
            else:
                always.append(len(lists))
            lists.append(entries - left_out)
        skeleton = confusables.skeletons(files["confusables"], leet=True) if self.masked else None
        return functools.partial(self._judge, WordLists(lists, skeleton), own, always)

    def _judge(self, lists: WordLists, own: Mapping[str, int], always: Sequence[int], batch: pa.RecordBatch) -> Outcome:
        text = batch.column("text")
        which = np.array([own.get(self._code(code), -1) for code in strings(batch, "language")], np.int64)
        found = lists.count(text, which)
        for number in always:
            found[:, :2] += lists.count(text, np.full(len(text), number))[:, :2]
        share = np.minimum(found[:, 1] * _PARTS // np.maximum(found[:, 2], 1), _PARTS)
        limit = round(self.max_share * _PARTS)
        none = text.is_null().to_numpy(zero_copy_only=False)
        rules = [Rule("no_text", none)]
        if self.mode == "drop":
            bad = (found[:, 0] > self.max_count) & (share > limit)
            rules.append(Rule("toxic_words", bad, share / _PARTS, self.max_share))
        batch = with_column(batch, "toxic_words", pa.array(found[:, 0].astype(np.int32)))
        batch = with_column(batch, "toxic_share", pa.array(share.astype(np.float32) / np.float32(_PARTS)))
        without = int((which[~none] < 0).sum()) if not always else 0
        return judged(batch, rules, {"documents_without_list": without} if without else {})

    def _code(self, language: str | None) -> str:
        base = (language or self.fallback_language).lower().replace("_", "-").split("-")[0]
        return _SAME.get(base, base)
