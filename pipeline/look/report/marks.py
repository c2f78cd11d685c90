"""Stretches of texts that a report marks: what differs between two texts, and what a word list found."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.resources import load
from pipeline.work import Context
from stages.toxicity import Toxicity
from stages.words import is_spaceless

SAME, CUT, ADDED, FOUND, GAP = "same", "cut", "added", "found", "gap"
AROUND = 60
"""Characters that stay at either end of an equal stretch that is shortened, and around what was found."""
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_WINDOW = 4
"""Words that an entry of a list may have, to be marked as one."""
_INSIDE = 10
"""Characters of a script without spaces that it may have."""
_TRIED = 20_000
"""Stretches of one text that are tried."""


class Span(NamedTuple):
    """A stretch of text and what it is: one of SAME, CUT, ADDED, FOUND; GAP stands for text that is left out."""

    kind: str
    text: str


def difference(before: str, after: str) -> tuple[list[Span], list[Span]]:
    """Both texts as stretches: equal ones, those that only the first has (CUT) and only the second has (ADDED).

    Words are compared, in scripts without spaces characters. Long equal stretches are shortened in both.
    """
    pieces = [_pieces(text) for text in (before, after)]
    matcher = difflib.SequenceMatcher(None, pieces[0], pieces[1], autojunk=False)
    left: list[Span] = []
    right: list[Span] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        one, other = "".join(pieces[0][a:b]), "".join(pieces[1][c:d])
        if kind == "equal":
            first, last = not left and not right, b == len(pieces[0]) and d == len(pieces[1])
            short = _shortened(one, first, last)
            left += short
            right += short
        else:
            left += [Span(CUT, one)] if one else []
            right += [Span(ADDED, other)] if other else []
    return left, right


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    for piece in _PIECE.findall(text):
        found += list(piece) if is_spaceless(piece) else [piece]
    return found


def _shortened(text: str, first: bool, last: bool) -> list[Span]:
    """An equal stretch; of a long one its ends, where they stand beside a difference."""
    head, tail = "" if first and not last else text[: 2 * AROUND], "" if last and not first else text[-2 * AROUND :]
    if len(text) <= 5 * AROUND:
        return [Span(SAME, text)]
    shown = [Span(SAME, head)] if head else []
    shown.append(Span(GAP, f"{len(text) - len(head) - len(tail):,}"))
    return [*shown, Span(SAME, tail)] if tail else shown


class Spans:
    """The stretches of a text that a stage `toxicity` counts, by the stage's own matcher."""

    def __init__(self, context: Context, stage: Toxicity) -> None:
        self._processor = dataclasses.replace(stage, mode="tag").bind(load(stage.files(), context.folder))

    def mark(self, text: str, language: str | None) -> list[Span]:
        """The text around what was found, which is marked; [] where nothing is."""
        places = self._smallest(text, language)
        shown: list[Span] = []
        end = 0
        for start, stop in places:
            if start > end:
                shown += _between(text[end:start], end == 0, False)
            shown.append(Span(FOUND, text[start:stop]))
            end = stop
        return [*shown, *_between(text[end:], False, True)] if shown and end < len(text) else shown

    def _smallest(self, text: str, language: str | None) -> list[tuple[int, int]]:
        """The shortest stretches of words that count alone, from left to right; none within another."""
        words = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
        tried = [
            (a, b, words[a][0], words[b - 1][1])
            for b in range(1, len(words) + 1)
            for a in range(max(0, b - _WINDOW), b)
        ]
        found: list[tuple[int, int]] = []
        hit = self._hits([text[one[2] : one[3]] for one in tried[:_TRIED]], language)
        alone = {(a, b) for (a, b, _, _), here in zip(tried, hit, strict=False) if here}
        for a, b in sorted(alone, key=lambda one: (one[1] - one[0], one)):
            inner = any((c, d) != (a, b) and a <= c and d <= b for c, d in alone)
            if not inner:
                found += self._inside(text, words[a][0], words[b - 1][1], language)
        return sorted(set(found))

    def _inside(self, text: str, start: int, end: int, language: str | None) -> list[tuple[int, int]]:
        """Within words of a script without spaces, the shortest characters that count."""
        if end - start <= 2 or not is_spaceless(text[start:end]):
            return [(start, end)]
        tried = [(a, b) for a in range(start, end) for b in range(a + 1, min(a + _INSIDE, end) + 1)][:_TRIED]
        hit = self._hits([text[a:b] for a, b in tried], language)
        alone = [one for one, here in zip(tried, hit, strict=True) if here]
        inmost = [
            (a, b) for a, b in alone if not any((c, d) != (a, b) and a <= c and d <= b for c, d in alone)
        ]  # of those that overlap the first
        kept: list[tuple[int, int]] = []
        for a, b in sorted(inmost):
            if not kept or a >= kept[-1][1]:
                kept.append((a, b))
        return kept or [(start, end)]

    def _hits(self, texts: Sequence[str], language: str | None) -> list[bool]:
        if not texts:
            return []
        columns = {"id": pa.array([bytes(16)] * len(texts), pa.binary(16)), "text": pa.array(texts, pa.string())}
        columns["language"] = pa.array([language] * len(texts), pa.string())
        counted = self._processor(pa.RecordBatch.from_pydict(columns)).batch.column("toxic_words")
        return [bool(count) for count in counted.to_pylist()]


def _between(text: str, first: bool, last: bool) -> list[Span]:
    """The text between two finds, or before the first or behind the last one."""
    if len(text) <= 3 * AROUND:
        return [Span(SAME, text)] if text else []
    head, tail = "" if first else text[:AROUND], "" if last else text[-AROUND:]
    shown = [Span(SAME, head)] if head else []
    shown.append(Span(GAP, f"{len(text) - len(head) - len(tail):,}"))
    return [*shown, Span(SAME, tail)] if tail else shown
