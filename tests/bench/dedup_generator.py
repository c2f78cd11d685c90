"""Documents of real text with duplicates of chosen similarity, seeded: what the figures of deduplication are taken on.

A document is made of pieces (sentences and lines) of the texts of one language and domain, ~2.5k characters; a
duplicate is one with words replaced at a rate that gives the wanted Jaccard similarity of 5-gram shingles: where each
word is replaced with probability p, a shingle stays with s = (1 - p)^5, and the similarity is s / (2 - s). So document
n is a function of the seed and n alone, there are as many as one wants, and two that are not duplicates share
hardly anything. The true similarity of a pair is what `stages.shingles` counts, not what was aimed at.
"""

from __future__ import annotations

import bisect
import functools
import gzip
import itertools
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import regex

TEXTS = Path(__file__).parents[3] / "shared" / "data" / "text"
CHARACTERS = 2_500
"""Length of a document."""
NGRAM = 5
LEAST, MOST = 0.35, 1.0
"""Similarities of duplicates are drawn evenly from here."""
COPIES = 0.1
"""Share of duplicates that are copies to the byte."""

_PIECE = 150
"""Fewest characters of a piece."""
_END = regex.compile(r"(?<=[.!?]\s)|(?<=[。！？\n])")
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+")
_Draw = Callable[[], float]
_MIX = 0x9E3779B97F4A7C15


class Generator:
    """The documents of one seed. Raises FileNotFoundError where the texts (../shared/data/text) are not here."""

    def __init__(self, seed: int, duplicates: float = 0.3) -> None:
        self.seed, self.duplicates = seed, duplicates
        self.pools, self.weights = pools()

    def document(self, number: int) -> tuple[str, str]:
        """Id and text of a document. A duplicate's id is `NUMBER~ORIGINAL`, so that one sees what it was made of."""
        draw = self._draw(number)
        if number == 0 or draw() >= self.duplicates:
            return str(number), self._original(draw)
        of = int(draw() * number)
        _, text = self.document(of)
        if draw() < COPIES:
            return f"{number}~{of}", text
        return f"{number}~{of}", self.varied(text, LEAST + (MOST - LEAST) * draw(), number)

    def varied(self, text: str, similarity: float, number: int) -> str:
        """The text with words replaced so that about this Jaccard similarity is left (above 0 to 1)."""
        draw = self._draw(~number)
        rate = 1 - (2 * similarity / (1 + similarity)) ** (1 / NGRAM)
        if rate <= 0:
            return text
        words = [match.span() for match in _WORD.finditer(text)]
        parts = []
        place = -1
        behind = 0
        while True:
            place += 1 + int(math.log(1 - draw()) / math.log(1 - rate))  # the gap to the next one is geometric
            if place >= len(words):
                parts.append(text[behind:])
                return "".join(parts)
            start, end = words[place]
            parts += [text[behind:start], self._word(draw)]
            behind = end

    def original(self, number: int) -> str:
        """A document that is no duplicate."""
        return self._original(self._draw(number))

    def _original(self, draw: _Draw) -> str:
        pool = self._pool(draw)
        pieces: list[str] = []
        length = 0
        while length < CHARACTERS:
            pieces.append(pool[int(draw() * len(pool))])
            length += len(pieces[-1])
        return "".join(pieces)[: CHARACTERS + _PIECE]

    def _word(self, draw: _Draw) -> str:
        """A word of any text."""
        pool = self._pool(draw)
        words = _words(pool[int(draw() * len(pool))])
        return words[int(draw() * len(words))] if words else "x"

    def _pool(self, draw: _Draw) -> list[str]:
        return self.pools[bisect.bisect(self.weights, draw() * self.weights[-1])]

    def _draw(self, number: int) -> _Draw:
        # Of `random` only `random()` is promised to stay.
        return random.Random((self.seed * _MIX + number * 2 + (number < 0)) & ((1 << 128) - 1)).random


def documents(count: int, seed: int, duplicates: float = 0.3) -> Iterator[tuple[str, str]]:
    """So many documents, id and text; the share `duplicates` of them are variants of an earlier one."""
    generator = Generator(seed, duplicates)
    return map(generator.document, range(count))


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """So many pairs of documents, their similarities spread evenly over `LEAST` to `MOST`; no two share a document."""
    generator = Generator(seed)
    found = []
    for number in range(count):
        text = generator.original(number)
        found.append((text, generator.varied(text, LEAST + (MOST - LEAST) * (number + 0.5) / count, number)))
    return found


@functools.cache
def pools() -> tuple[list[list[str]], list[int]]:
    """Distinct pieces by language and domain, and the running sums of the pools' characters."""
    if not TEXTS.is_dir():
        raise FileNotFoundError("the texts (../shared/data/text) are not here")
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    seen: set[str] = set()
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                for piece in _pieces(row["text"]):
                    if piece not in seen:  # such as what a translation left in English
                        seen.add(piece)
                        found[path.name, row["lang"]].append(piece)
    kept = [pool for pool in found.values() if len(pool) >= 200]
    return kept, list(itertools.accumulate(sum(map(len, pool)) for pool in kept))


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for part in _END.split(text):
        piece += part
        if len(piece) >= _PIECE:
            yield piece[: 4 * _PIECE].rstrip() + "\n"
            piece = ""


@functools.lru_cache(maxsize=1 << 18)
def _words(piece: str) -> list[str]:
    return [match.group() for match in _WORD.finditer(piece)]
