"""The pages with gold text, and how an extracted text is scored against it. Pure functions; `pages` alone reads files.

Token F1 is WCXB's word-level F1 (its evaluate.py): multisets of tokens, one precision, recall and F1 for each page,
then the plain mean over pages. Two things differ, both for scripts without spaces between words: a token is one
character in Chinese, Japanese, Thai, Lao, Khmer and Burmese, and a letter keeps its combining marks. `n=4` gives the
4-gram shingles of the article extraction benchmark (Scrapinghub) in the same form.
Snippets are scored as trafilatura's tests/evaluate.py does: counts over all pages, then one F1.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import regex

from pipeline.splits import registered_domain
from stages.extract.folds import fold

CRAWL = Path(__file__).parents[3] / "shared" / "data" / "crawl"
PAGE_TYPES = ("article", "forum", "product", "collection", "listing", "documentation", "service")
SPACELESS = ("zh", "wuu", "yue", "ja", "th", "lo", "km", "my")
"""Languages written without spaces between words."""

_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
    r"|[\w--\p{Han}--\p{Hiragana}--\p{Katakana}--\p{Thai}--\p{Lao}--\p{Khmer}--\p{Myanmar}]+",
    regex.V1,
)


@dataclass(frozen=True)
class Page:
    """One page of the crawl, with what people said about it; `gold` and `title` are None where nobody did."""

    id: str
    dataset: str
    """wcxb-dev, magic-article, trafilatura-eval or llm-webkit."""
    url: str | None
    """None where it is unknown (the record then carries a made-up one)."""
    language: str | None
    page_type: str | None
    title: str | None
    gold: str | None
    wanted: tuple[str, ...]
    """Snippets that the text must hold."""
    unwanted: tuple[str, ...]
    """Snippets that it must not hold."""
    payload: bytes
    content_type: str | None

    @cached_property
    def site(self) -> str:
        """Registered domain, or the page's id where the URL is unknown."""
        return site(self.url) or self.id

    @property
    def fold(self) -> int:
        """The fold whose model may score this page."""
        return fold(self.site)

    @property
    def spaceless(self) -> bool:
        """Whether its language is written without spaces between words."""
        return self.language in SPACELESS


def pages(folder: Path = CRAWL, up_to: str = "") -> list[Page]:
    """Every page of the crawl in the order of its files; raises FileNotFoundError where the data is not here.

    With `up_to`, only pages whose id does not lie behind it.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    gold_path = folder / "gold.jsonl.gz"
    if not gold_path.exists():
        raise FileNotFoundError(f"{folder.name}/gold.jsonl.gz of the shared data is not here")
    with gzip.open(gold_path, "rt", encoding="utf-8") as file:
        rows = {row["id"]: row for row in map(json.loads, file)}
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                name = (record.record_id or "").removeprefix("<urn:page:").rstrip(">")
                row = rows.pop(name, {"dataset": path.name.rsplit("-", 1)[0]})
                if up_to and name > up_to:
                    continue
                found.append(_page(name, row, record.reader.read(), record.http_headers.get("Content-Type")))
    if rows:
        raise ValueError(f"{len(rows)} pages of {gold_path.name} have no record, the first is {next(iter(rows))}")
    return found


def _page(name: str, row: dict[str, object], payload: bytes, content_type: str | None) -> Page:
    def text(key: str) -> str | None:
        return str(row[key]) if row.get(key) else None

    def texts(key: str) -> tuple[str, ...]:
        value = row.get(key) or ()
        assert isinstance(value, Iterable)
        return tuple(str(each) for each in value)

    return Page(
        name,
        str(row["dataset"]),
        text("url"),
        text("lang"),
        text("page_type"),
        text("title"),
        text("gold_text"),
        texts("with_snippets"),
        texts("without_snippets"),
        payload,
        content_type,
    )


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


def site(url: str | None) -> str:
    """The registered domain of a URL; empty where it has no host or is missing."""
    try:
        return registered_domain(urlsplit(url or "").hostname or "")
    except ValueError:  # a bracket that opens no address
        return ""


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
