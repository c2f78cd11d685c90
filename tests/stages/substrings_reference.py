"""What `stages.substrings` computes, in plain Python: every stretch is looked up in a dictionary of all stretches."""

from __future__ import annotations

from collections import defaultdict

from stages.words import fold, words

Stretch = tuple[str, ...]


def folded_words(text: str) -> list[str]:
    """The words of a text as deduplication compares them."""
    return [word.replace("\u200c", "").replace("\u200d", "") for word in words(fold(text))]


def cut_words(documents: list[list[str]], tokens: int, least: int = 2, most: int | None = None) -> list[set[int]]:
    """For each document, in their order, the numbers of the words that are cut."""
    places: dict[Stretch, list[tuple[int, int]]] = defaultdict(list)
    for number, document in enumerate(documents):
        for start in range(len(document) - tokens + 1):
            places[tuple(document[start : start + tokens])].append((number, start))
    gone: list[set[int]] = [set() for _ in documents]
    for found in places.values():
        holders = len({number for number, _ in found})
        if holders < least or (most is not None and holders > most):
            continue
        first = found[0]
        for number, start in found[1:]:
            if number != first[0] or start - first[1] >= tokens:
                gone[number].update(range(start, start + tokens))
    return gone
