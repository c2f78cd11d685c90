"""Which words speak for main content: log odds of the words of attributes and of short texts, learned by site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.train_extractor.examples import Example
from stages.extract.tokens import TOKENS
from stages.extract.weights import TOKEN_SLOTS, WORD_SLOTS, token_slots, word_slots

Floats = npt.NDArray[np.float64]
_SITE_PAGES = 3  # a site counts for at most so many pages
_WORD_SITES, _TOKEN_SITES = 3, 4  # fewer say nothing about other sites
_WORD_PRIOR, _TOKEN_PRIOR = 0.5, 2.0


class Counts(NamedTuple):
    """Of each slot: mass inside and outside main content, and the sites that have it."""

    inside: Floats
    outside: Floats
    sites: Floats


class FoldCounts(NamedTuple):
    """What the pages of one fold say of words and of tokens."""

    words: Counts
    tokens: Counts


def count(examples: Iterable[Example], folds: int) -> list[FoldCounts]:
    """The counts of each fold. They add up, so that the tables for any set of folds cost a sum."""
    sites: dict[tuple[int, str], list[Example]] = defaultdict(list)
    for example in examples:
        sites[example.fold, example.site].append(example)
    found = [
        FoldCounts(*(Counts(np.zeros(size), np.zeros(size), np.zeros(size)) for size in (WORD_SLOTS, TOKEN_SLOTS)))
        for _ in range(folds)
    ]
    for (fold, _), pages in sorted(sites.items()):
        share = min(len(pages), _SITE_PAGES) / len(pages)
        for kind, masses in enumerate((_word_mass, _token_mass)):
            inside, outside = (sum(parts) for parts in zip(*map(masses, pages), strict=True))
            counts = found[fold][kind]
            counts.inside[:] += inside * share
            counts.outside[:] += outside * share
            counts.sites[:] += (inside + outside) > 0
    return found


def tables(counts: Sequence[FoldCounts], without: frozenset[int]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """The weights of words and of tokens in 1/16 of log odds, from all folds but these."""
    used = [each for fold, each in enumerate(counts) if fold not in without]
    words, tokens = (Counts(*(sum(parts) for parts in zip(*kind, strict=True))) for kind in zip(*used, strict=True))
    return _log_odds(words, _WORD_PRIOR, _WORD_SITES), _log_odds(tokens, _TOKEN_PRIOR, _TOKEN_SITES)


def _log_odds(counts: Counts, prior: float, sites: int) -> npt.NDArray[np.int8]:
    inside, outside = counts.inside.sum() + 1, counts.outside.sum() + 1
    share = inside / (inside + outside)
    odds = np.log((counts.inside + prior * share) / (counts.outside + prior * (1 - share))) - np.log(inside / outside)
    odds[counts.sites < sites] = 0
    weights: npt.NDArray[np.int8] = np.clip(np.round(16 * odds), -127, 127).astype(np.int8)
    return weights


def _word_mass(example: Example) -> tuple[Floats, Floats]:
    """The share of the page's tokens under the elements that carry a word, inside and outside main content."""
    blocks = example.blocks
    mass = blocks.counts[:, TOKENS] + 1.0
    mass /= mass.sum()
    inside, outside = (np.concatenate(([0.0], np.cumsum(mass * part))) for part in (example.target, 1 - example.target))
    element = np.repeat(np.arange(len(blocks.tag)), np.diff(blocks.word_start))
    slots = word_slots(blocks.word)
    under = [(sums[blocks.last] - sums[blocks.first])[element] for sums in (inside, outside)]
    masses = [np.bincount(slots, part, WORD_SLOTS) for part in under]
    scale = 1 / np.maximum(masses[0] + masses[1], 1)  # nested elements of one word count once
    return masses[0] * scale, masses[1] * scale


def _token_mass(example: Example) -> tuple[Floats, Floats]:
    """How often a token stands inside and outside main content, two times a page at most."""
    slots, block = token_slots(example.blocks.token, example.blocks.token_block)
    masses = [np.bincount(slots, part[block], TOKEN_SLOTS) for part in (example.target, 1 - example.target)]
    total = masses[0] + masses[1]
    scale = np.minimum(total, 2) / np.maximum(total, 1e-9)
    return masses[0] * scale, masses[1] * scale
