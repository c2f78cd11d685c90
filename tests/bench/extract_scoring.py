"""The pages with gold text, and how an extracted text is scored against it. Pure functions; `pages` alone reads files.

Token F1 is WCXB's word-level F1 (its evaluate.py): multisets of tokens, one precision, recall and F1 for each page,
then the plain mean over pages. Two things differ, both for scripts without spaces between words: a token is one
character in Chinese, Japanese, Thai, Lao, Khmer and Burmese, and a letter keeps its combining marks. `n=4` gives the
4-gram shingles of the article extraction benchmark (Scrapinghub) in the same form.
Snippets are scored as trafilatura's tests/evaluate.py does: counts over all pages, then one F1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from pipeline.train_extractor.pages import Page, load, site

__all__ = ["Page", "site"]

CRAWL = Path(__file__).parents[3] / "shared" / "data" / "crawl"
PAGE_TYPES = ("article", "forum", "product", "collection", "listing", "documentation", "service")
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
    r"|[\w--\p{Han}--\p{Hiragana}--\p{Katakana}--\p{Thai}--\p{Lao}--\p{Khmer}--\p{Myanmar}]+",
    regex.V1,
)


def pages(folder: Path = CRAWL, up_to: str = "") -> list[Page]:
    """Every page of the shared crawl; see `load`."""
    return load(folder, up_to)


def page_sets(found: Sequence[Page]) -> dict[str, list[Page]]:
    """The sets that figures are given for; a page may stand in several.

    `wcxb` (with gold text; 14 pages have none), `wcxb/TYPE` for each page type, `magic` (magic-html articles),
    `trafilatura` (snippets), `spaceless` (every page with gold in a language without spaces between words),
    `multilingual` (every page with gold that is not English), `webkit` (no gold).
    """
    gold = [page for page in found if page.gold]
    wcxb = [page for page in gold if page.dataset == "wcxb-dev"]
    return {
        "wcxb": wcxb,
        **{f"wcxb/{kind}": [page for page in wcxb if page.page_type == kind] for kind in PAGE_TYPES},
        "magic": [page for page in gold if page.dataset == "magic-article"],
        "trafilatura": [page for page in found if page.dataset == "trafilatura-eval"],
        "spaceless": [page for page in gold if page.spaceless],
        "multilingual": [page for page in gold if page.language not in (None, "en")],
        "webkit": [page for page in found if page.dataset == "llm-webkit"],
    }


def tokens(text: str) -> list[str]:
    """Words, casefolded; single characters in scripts that put no spaces between words (Hangul has words)."""
    found: list[str] = _WORD.findall(text.casefold())
    return found


class Score(NamedTuple):
    """Precision, recall and F1, each 0 to 1."""

    precision: float
    recall: float
    f1: float


def token_f1(text: str, gold: str, n: int = 1) -> Score:
    """Multiset precision, recall and F1 of a page's tokens, or of its shingles of `n` tokens.

    All are 1 where text and gold are both empty, and 0 where one of them is.
    """
    ours, theirs = _shingles(tokens(text), n), _shingles(tokens(gold), n)
    if not ours and not theirs:
        return Score(1.0, 1.0, 1.0)
    common = (ours & theirs).total()
    if not common:
        return Score(0.0, 0.0, 0.0)
    precision, recall = common / ours.total(), common / theirs.total()
    return Score(precision, recall, 2 * precision * recall / (precision + recall))


def _shingles(words: list[str], n: int) -> Counter[object]:
    if n == 1:
        return Counter(words)
    return Counter(tuple(words[at : at + n]) for at in range(max(1, len(words) - n + 1)) if words)


class Counts(NamedTuple):
    """Snippets that were: rightly found, wrongly found, missed, rightly left out."""

    tp: int
    fp: int
    fn: int
    tn: int


def snippet_counts(text: str, wanted: Sequence[str], unwanted: Sequence[str]) -> Counts:
    """How many wanted and unwanted snippets a text holds, white space made equal on both sides."""
    normal = _spaces(text)
    tp = sum(_spaces(snippet) in normal for snippet in wanted)
    fp = sum(_spaces(snippet) in normal for snippet in unwanted)
    return Counts(tp, fp, len(wanted) - tp, len(unwanted) - fp)


def _spaces(text: str) -> str:
    return " ".join(text.split())


def micro_f1(counts: Sequence[Counts] | npt.NDArray[np.int64]) -> float:
    """F1 of the sums over pages."""
    tp, fp, fn, _ = np.asarray(counts, np.int64).reshape(-1, 4).sum(axis=0)
    return float(2 * tp / max(2 * tp + fp + fn, 1))


class Difference(NamedTuple):
    """Ours minus theirs, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def paired_bootstrap(
    ours: Sequence[float] | npt.NDArray[np.float64],
    theirs: Sequence[float] | npt.NDArray[np.float64],
    resamples: int = 5000,
    seed: int = 7,
) -> Difference:
    """Mean difference of two scores of the same pages, with its percentile interval over resampled pages.

    The generator is seeded anew in every call, so a figure does not depend on which others were computed before.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"scores of the same pages are compared, not {len(ours)} with {len(theirs)}")
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    if not len(difference):
        raise ValueError("no pages to compare")
    means = np.array([difference[draw].mean() for draw in _draws(len(difference), resamples, seed)])
    return Difference(float(difference.mean()), *map(float, np.quantile(means, (0.025, 0.975))))


def paired_micro_bootstrap(
    ours: Sequence[Counts], theirs: Sequence[Counts], resamples: int = 5000, seed: int = 7
) -> Difference:
    """The same for the micro F1 of snippets: pages are drawn, their counts are added up, then F1 is taken."""
    if len(ours) != len(theirs):
        raise ValueError(f"counts of the same pages are compared, not {len(ours)} with {len(theirs)}")
    both = [np.asarray(counts, np.int64).reshape(-1, 4) for counts in (ours, theirs)]
    found = [micro_f1(both[0][draw]) - micro_f1(both[1][draw]) for draw in _draws(len(both[0]), resamples, seed)]
    return Difference(micro_f1(both[0]) - micro_f1(both[1]), *map(float, np.quantile(found, (0.025, 0.975))))


def _draws(size: int, resamples: int, seed: int) -> Iterable[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, size, size)
