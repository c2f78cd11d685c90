"""Near duplicates are found as often as the theory of banding says, from text to bucket."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.bench.dedup_quality import LEAST_BIN, Pairs, compared, interval

WORDS = [f"{first}{second}{third}" for first in "bdfgklmnprstv" for second in "aeiou" for third in "lmnrst"]


@pytest.fixture(scope="module")
def found() -> Pairs:
    """Pairs of texts of random words with words replaced, of similarities from 0.35 to 1."""
    draw = random.Random(7).random
    count = 4_800
    left, right = [], []
    for number in range(count):
        similarity = 0.35 + 0.65 * (number + 0.5) / count
        rate = 1 - (2 * similarity / (1 + similarity)) ** 0.2
        words = [WORDS[int(draw() * len(WORDS))] for _ in range(120)]
        left.append(" ".join(words))
        right.append(" ".join(WORDS[int(draw() * len(WORDS))] if draw() < rate else word for word in words))
    return compared(left, right)


@pytest.mark.parametrize(("bands", "rows"), [(9, 13), (14, 8), (25, 5)])
def test_recall_is_that_of_theory(found: Pairs, bands: int, rows: int) -> None:
    """Duplicates would be missed more often than the settings promise, for a weak hash of words or of permutations."""
    met = found.candidates(bands, rows)
    for low in np.arange(LEAST_BIN, 1, 0.1):
        inside = (found.similarity >= low) & (found.similarity < low + 0.1)
        theory = float((1 - (1 - found.similarity[inside] ** rows) ** bands).mean())
        first, last = interval(int(inside.sum()), theory, 0.99)
        assert inside.sum() > 400
        assert first <= met[inside].sum() <= last, f"{low:.1f}"


def test_exact_verification_leaves_no_pair_below_the_threshold(found: Pairs) -> None:
    """Documents would be removed that are nobody's duplicate."""
    for threshold in (0.5, 0.7, 0.8):
        exact, estimated = found.exactly(threshold), found.by_estimate(threshold)
        assert (exact == (found.similarity >= threshold - 1e-9)).all()
        assert 0 < (exact != estimated).sum() < 0.15 * len(exact)  # what the option is there for
