"""What near deduplication finds and what it misses: `make bench-dedup`.

Recall: pairs of documents of known similarity (`dedup_generator`); in each bin of 0.05 the share that falls into one
bucket in some band must lie in the 99 % interval of what theory says, 1 - (1 - J^r)^b (Leskovec et al., Mining of
Massive Datasets, section 3.4). Beside it what is left once a pair is verified, by estimate or exactly. Then precision
and recall by language over pairs of real revisions with labelled similarities (../shared/data/dedup).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.lsh import bands_and_rows, min_equal
from stages.minhash import MinHashSettings, signatures
from stages.shingles import common, shingle_sets
from stages.words import fold, words
from tests.bench.dedup_generator import NGRAM, TEXTS, pairs

REVISIONS = TEXTS.parent / "dedup" / "revision_pairs"
PERMUTATIONS = 128
PARAMETERS: Sequence[tuple[float, tuple[int, int] | None]] = ((0.8, None), (0.8, (14, 8)), (0.7, None), (0.5, None))
"""Thresholds, with bands and rows other than those for the threshold."""
BIN = 0.05
LEAST_BIN = 0.4
BINS = round((1 - LEAST_BIN) / BIN)

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Pairs(NamedTuple):
    """n pairs of texts."""

    equal: Mask
    """(n, permutations) which values of the two signatures are equal."""
    shared: npt.NDArray[np.int64]
    """(n,) shingles in common."""
    union: npt.NDArray[np.int64]
    """(n,) shingles in either."""

    @property
    def similarity(self) -> Floats:
        """(n,) exact Jaccard similarity."""
        return np.divide(self.shared, self.union)

    def candidates(self, bands: int, rows: int) -> Mask:
        """(n,) whether they meet in a bucket of some band."""
        met: Mask = np.any(np.all(self.equal[:, : bands * rows].reshape(-1, bands, rows), axis=2), axis=1)
        return met

    def by_estimate(self, threshold: float) -> Mask:
        """(n,) whether the share of equal values meets the threshold."""
        found: Mask = self.equal.sum(axis=1) >= min_equal(threshold, self.equal.shape[1])
        return found

    def exactly(self, threshold: float) -> Mask:
        """(n,) whether the similarity does."""
        found: Mask = self.shared >= np.ceil(threshold * self.union - 1e-6)
        return found


def compared(left: Sequence[str], right: Sequence[str]) -> Pairs:
    """The pairs of texts, by the stages that the pipeline has."""
    settings = MinHashSettings(permutations=PERMUTATIONS, ngram=NGRAM)
    column = pa.array([*left, *right])
    values = signatures(column, settings).values
    offsets, sets = shingle_sets(column, NGRAM)
    rows = np.arange(len(left))
    shared = common(offsets, sets, rows, rows + len(left))
    sizes = np.diff(offsets)
    return Pairs(values[: len(left)] == values[len(left) :], shared, sizes[: len(left)] + sizes[len(left) :] - shared)


def recall(found: Pairs, threshold: float, shape: tuple[int, int] | None) -> bool:
    """Prints a table, a bin of similarity a line; whether theory holds in all of them.

    Of a hundred bins one lies outside of its 99 % interval by chance, and is told. What fails is a bin outside of the
    interval that all bins of the table meet together in 99 % of all runs.
    """
    bands, rows = shape or bands_and_rows(threshold, PERMUTATIONS)
    similarity = found.similarity
    met = found.candidates(bands, rows)
    print(f"\nrecall of {bands} bands of {rows} rows; verified at {threshold}")
    print("similarity      pairs   theory  candidates  99 % interval    by estimate  exactly")
    good = True
    for number in range(BINS):
        low = LEAST_BIN + BIN * number
        inside = (similarity >= low - 1e-9) & (similarity < low + BIN - 1e-9)
        count = int(inside.sum())
        theory = float((1 - (1 - similarity[inside] ** rows) ** bands).mean())
        first, last = interval(count, theory, 0.99)
        outer = interval(count, theory, 1 - 0.01 / BINS)
        hits = int(met[inside].sum())
        note = "" if first <= hits <= last else "  outside"
        if not outer[0] <= hits <= outer[1]:
            good, note = False, "  MISSED"
        estimate, exact = (
            (met & verified)[inside].mean() for verified in (found.by_estimate(threshold), found.exactly(threshold))
        )
        print(
            f"{low:.2f} - {low + BIN:.2f} {count:7d}   {theory:.4f}      {hits / count:.4f}  "
            f"{first / count:.4f} - {last / count:.4f}       {estimate:.4f}   {exact:.4f}{note}"
        )
    false = met & found.by_estimate(threshold) & ~found.exactly(threshold)
    print(f"edges by estimate whose similarity is below the threshold: {false.sum()}, the least {least(found, false)}")
    under = met & found.exactly(threshold) & (similarity < threshold - 1e-9)
    print(f"edges by exact verification whose similarity is below it: {under.sum()}")
    return good and not under.any()


def interval(count: int, share: float, sure: float) -> tuple[int, int]:
    """The least and the greatest number of successes in `count` tries of probability `share` that are not among the
    `1 - sure` of all outcomes, half of them at either end, that are furthest off (binomial)."""
    if share in (0.0, 1.0):
        return int(count * share), int(count * share)
    factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    hits = np.arange(count + 1)
    log = factorials[count] - factorials - factorials[::-1] + hits * np.log(share) + hits[::-1] * np.log1p(-share)
    below = np.cumsum(np.exp(log))
    first, last = np.searchsorted(below, ((1 - sure) / 2, (1 + sure) / 2))
    return int(first), int(min(last, count))


def least(found: Pairs, chosen: Mask) -> str:
    """The least similarity of these pairs, in words."""
    return f"{found.similarity[chosen].min():.3f}" if chosen.any() else "-"


def exact_by_hand(left: Sequence[str], right: Sequence[str], found: Pairs) -> bool:
    """Whether the exact similarities are those of plain Python's sets of word n-grams."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        listed = [word.replace("\u200c", "").replace("\u200d", "") for word in words(fold(text))]
        return {tuple(listed[at : at + NGRAM]) for at in range(max(len(listed) - NGRAM + 1, 1))}

    for one, other, shared, union in zip(left, right, found.shared, found.union, strict=True):
        first, second = shingles(one), shingles(other)
        if (len(first & second), len(first | second)) != (shared, union):
            return False
    return True


def revisions() -> tuple[list[str], list[str], Floats, list[str]]:
    """Labelled pairs: two texts, similarity, language."""
    with gzip.open(REVISIONS / "docs.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    with (REVISIONS / "pairs.tsv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    left, right = ([texts[row[side]] for row in listed] for side in ("id_a", "id_b"))
    return left, right, np.array([float(row["jaccard_5gram"]) for row in listed]), [row["lang"] for row in listed]


def by_language(found: Pairs, labels: Floats, languages: Sequence[str], threshold: float) -> None:
    """Prints precision and recall of the edges among the labelled pairs, by language and way of verifying.

    No label lies on another side of the thresholds than our own exact similarity.
    """
    bands, rows = bands_and_rows(threshold, PERMUTATIONS)
    met = found.candidates(bands, rows)
    print(f"\nrevision pairs at {threshold}, {bands} bands of {rows}: precision and recall against the labels")
    print("language  verified     pairs  above  edges  precision  recall")
    of = np.array(languages)
    for language in [*sorted(set(languages)), "all"]:
        chosen = of == language if language != "all" else np.ones(len(of), np.bool_)
        above = (labels >= threshold) & chosen
        for name, verified in (("estimate", found.by_estimate(threshold)), ("exact", found.exactly(threshold))):
            edges = met & verified & chosen
            right = (edges & above).sum()
            print(
                f"{language:<8}  {name:<8}  {chosen.sum():7d} {above.sum():6d} {edges.sum():6d}      "
                f"{right / max(edges.sum(), 1):.3f}   {right / max(above.sum(), 1):.3f}"
            )


def main() -> int:
    """Prints the tables; 1 where a goal is missed, 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not TEXTS.is_dir() or not REVISIONS.is_dir():
        print("the texts (../shared/data) are not here", file=sys.stderr)
        return 2
    left, right = (list(side) for side in zip(*pairs(options.pairs, options.seed), strict=True))
    found = compared(left, right)
    few = Pairs(found.equal[::100], found.shared[::100], found.union[::100])
    missed = [] if exact_by_hand(left[::100], right[::100], few) else ["exact sets"]
    for threshold, shape in PARAMETERS:
        if not recall(found, threshold, shape):
            missed.append(f"recall at {threshold}, {shape or 'own bands'}")
    left, right, labels, languages = revisions()
    found = compared(left, right)
    for threshold in (0.8, 0.7, 0.5):
        by_language(found, labels, languages, threshold)
    print("\nmissed: " + "; ".join(missed) if missed else "\nall goals are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
