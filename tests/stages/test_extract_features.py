"""The figures by which blocks are judged, against the same figures written out in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.extract.blocks import Blocks, read
from stages.extract.features import CONTEXT_NAMES, NAMES, context, matrix
from stages.extract.scan import TAGS, canonical, scan
from stages.extract.tokens import COUNTS
from stages.extract.weights import EARLY_TOKENS, TOKEN_SLOTS, WORD_SLOTS, token_slots, word_slots

GENERATOR = np.random.default_rng(7)
WORD_WEIGHTS = GENERATOR.integers(-60, 60, WORD_SLOTS).astype(np.int8)
TOKEN_WEIGHTS = GENERATOR.integers(-60, 60, TOKEN_SLOTS).astype(np.int8)
LEVELS = 5

pages = st.lists(
    st.sampled_from(
        (
            "<div class='post'>", "<div id=sideBar>", "</div>", "<ul>", "<li>", "</ul>", "<h1>", "</h1>", "<h2>", "<p>",
            "<nav>", "</nav>", "<article>", "</article>", "<table><tr><td>", "</table>", "<a href=x>", "</a>", "<pre>",
            "</pre>", "<img src=x>", "Home", "Some words, that end here.", "中文。", "One two three four five six "
            "seven eight nine ten eleven twelve thirteen fourteen fifteen, sixteen seventeen eighteen nineteen twenty.",
        )
    ),
    min_size=1,
    max_size=40,
).map(" ".join)  # fmt: skip


def blocks(html: str) -> Blocks:
    return read(scan(canonical(html)))


def ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0


class Page:
    """Sums over spans of blocks, and walks up the tree, by the book."""

    def __init__(self, found: Blocks) -> None:
        self.found = found
        self.rows = [dict(zip(COUNTS, map(int, row), strict=True)) for row in found.counts]
        self.size = len(self.rows)

    def sum(self, name: str, first: int, last: int) -> int:
        return sum(row[name] for row in self.rows[max(first, 0) : last])

    def long(self, first: int, last: int) -> int:
        rows = self.rows[first:last]
        return sum(row["tokens"] for row in rows if row["tokens"] >= 15 and 3 * row["linked"] < row["tokens"])

    def path(self, block: int) -> list[int]:
        """The elements around a block, from the innermost one."""
        path = [int(self.found.element[block])]
        while self.found.parent[path[-1]] >= 0:
            path.append(int(self.found.parent[path[-1]]))
        return path

    def levels(self, block: int) -> Iterator[tuple[int, int]]:
        """Spans of the elements around a block, each larger than the one before; the root's at last, again and again.

        The first is the smallest one that is larger than the block's own element.
        """
        spans = [(int(self.found.first[e]), int(self.found.last[e])) for e in self.path(block)]
        larger = [after for before, after in pairwise(spans) if after != before]
        for level in range(LEVELS):
            yield larger[level] if level < len(larger) else spans[-1]

    def make(self, block: int) -> list[tuple[int, int]]:
        """What siblings of one make have in common: tags and first words of the block's three innermost elements."""
        found = self.found
        return [(int(found.tag[e]), int(found.word[found.word_start[e]])) for e in self.path(block)[:3]]

    def tag(self, block: int) -> str:
        return TAGS[self.found.tag[self.found.element[block]]]

    def words(self, e: int) -> list[int]:
        found = self.found
        own = found.word[found.word_start[e] : found.word_start[e + 1]]
        return [int(weight) for weight in WORD_WEIGHTS[word_slots(own)]]

    def texts(self, block: int) -> list[int]:
        """The weight of each of a block's first tokens, or of it and the one before, whichever says more."""
        mine = self.found.token[self.found.token_block == block][:EARLY_TOKENS]
        slots, _ = token_slots(mine, np.zeros(len(mine), np.int32))
        weights = [int(weight) for weight in TOKEN_WEIGHTS[slots]]
        pairs = zip(weights[1::2], weights[2::2], strict=True)
        return weights[:1] + [pair if abs(pair) > abs(single) else single for single, pair in pairs]


def expected(page: Page, block: int) -> dict[str, float]:
    """A block's figures by their names: one of each kind."""
    row, path, rows = page.rows[block], page.path(block), page.rows
    tokens, total = row["tokens"], page.sum("tokens", 0, page.size)
    names = [TAGS[page.found.tag[e]] for e in path]
    headings = [b for b in range(block + 1) if page.tag(b) in ("h1", "h2")]
    h1s = [b for b in range(page.size) if page.tag(b) == "h1"]
    alike = [other for other in range(page.size) if page.make(other) == page.make(block)]
    own, texts = page.words(path[0]), page.texts(block)
    weights = [weight for e in path for weight in page.words(e)]
    made = {
        "tokens": tokens,
        "linked": ratio(row["linked"], tokens),
        "stops_token": ratio(row["stops"], tokens),
        "tokens_link": ratio(tokens, row["links"]),
        "own_p": names[0] == "p",
        "in_nav": "nav" in names,
        "in_article": "article" in names,
        "in_td": "td" in names,
        "depth": len(path) - 1,
        "list_depth": names.count("li"),
        "self_sum": sum(own),
        "self_min": min(0, *own),
        "self_max": max(0, *own),
        "path_sum": sum(weights),
        "path_min": min(0, *weights),
        "path_low": sum(min(page.words(e)) < -16 for e in path),
        "path_high": sum(max(page.words(e)) > 16 for e in path),
        "text_mean": ratio(sum(texts), len(texts)),
        "text_first": texts[0] if texts else 0,
        "text_max": max([0, *texts]),
        "place": block / page.size,
        "token_place": ratio(page.sum("tokens", 0, block), total),
        "tokens_after": page.sum("tokens", block + 1, page.size),
        "since_h1": page.sum("tokens", [b for b in h1s if b <= block][-1], block) if h1s and h1s[0] <= block else -1,
        "since_heading": page.sum("tokens", headings[-1], block) if headings else -1,
        "heading_level": int(page.tag(headings[-1])[1]) if headings else 0,
        "h1_later": bool(h1s and block < h1s[0]),
        "prev1_tokens": rows[block - 1]["tokens"] if block else -1,
        "next2_tokens": rows[block + 2]["tokens"] if block + 2 < page.size else -1,
        "next1_same": block + 1 in alike,
        "around_tokens": page.sum("tokens", block - 3, block + 4),
        "wide_linked": ratio(page.sum("linked", block - 10, block + 11), page.sum("tokens", block - 10, block + 11)),
        "alike": len(alike),
        "alike_tokens": ratio(sum(rows[b]["tokens"] for b in alike), len(alike)),
        "copies": sum(other["digest"] == row["digest"] for other in rows),
        "page_tokens": total,
        "page_blocks": page.size,
        "page_long": ratio(page.long(0, page.size), total),
        "page_images": page.sum("images", 0, page.size),
        "page_h1": sum(TAGS[tag] == "h1" for tag in page.found.tag),
        "page_rows": sum("td" in [TAGS[page.found.tag[e]] for e in page.path(b)] for b in range(page.size)) / page.size,
    }
    for level, (first, last) in enumerate(page.levels(block), start=1):
        many = page.sum("tokens", first, last)
        made[f"level{level}_tokens"] = many
        made[f"level{level}_blocks"] = last - first
        made[f"level{level}_long"] = ratio(page.long(first, last), many)
        made[f"level{level}_share"] = ratio(many, total)
    return made


@settings(max_examples=60)
@given(pages)
def test_each_column_is_what_its_name_says(html: str) -> None:
    """A model would learn from one figure and be asked about another: every score would be noise."""
    found = blocks(html)
    page = Page(found)
    x = matrix(found, WORD_WEIGHTS, TOKEN_WEIGHTS)
    assert x.shape == (page.size, len(NAMES))
    assert np.isfinite(x).all()
    for block in range(page.size):
        wanted = expected(page, block)
        made = {name: float(x[block, NAMES.index(name)]) for name in wanted}
        assert made == pytest.approx({name: float(value) for name, value in wanted.items()}, rel=1e-6)


@settings(max_examples=60)
@given(pages, st.integers(0, 2**32))
def test_each_column_of_the_context_is_what_its_name_says(html: str, seed: int) -> None:
    """The second model would smooth over the wrong neighbours: half of a thread, or the menu beside it."""
    found = blocks(html)
    page = Page(found)
    score = np.random.default_rng(seed).integers(0, 65537, page.size).astype(np.int32)
    x = context(found, score)
    assert x.shape == (page.size, len(CONTEXT_NAMES))
    assert np.isfinite(x).all()

    def mean(first: int, last: int) -> float:
        weights = found.counts[max(first, 0) : last, 0].astype(np.float64) + 1
        return ratio(float((weights * score[max(first, 0) : last]).sum()), float(weights.sum()))

    good = [b for b in range(page.size) if score[b] > 45000 and page.rows[b]["tokens"] >= 10]
    headings = [b for b in range(page.size) if page.tag(b) in ("h1", "h2")]
    for b in range(page.size):
        alike = [other for other in range(page.size) if page.make(other) == page.make(b)]
        weights = np.array([page.rows[other]["tokens"] + 1 for other in alike], np.float64)
        above = [h for h in headings if h <= b]
        earlier = [g for g in good if g < b]
        later = [g for g in good if g > b]
        end = next((h for h in headings if h > b), page.size)

        def between(first: int, last: int) -> int:
            return page.sum("tokens", first, last) + last - first

        wanted = {
            "own": score[b],
            "prev1": score[b - 1] if b else -1,
            "next3": score[b + 3] if b + 3 < page.size else -1,
            "around": mean(b - 2, b + 3),
            "before": mean(b - 20, b),
            "after": mean(b + 1, b + 21),
            "alike": float((weights * score[alike]).sum() / weights.sum()),
            "alike_best": score[alike].max(),
            **{f"level{at}": mean(*span) for at, span in enumerate(page.levels(b), start=1)},
            "page": mean(0, page.size),
            "best": score.max(),
            "heading": score[above[-1]] if above else -1,
            "section": mean(b + 1, end),
            "since_good": between(earlier[-1] + 1, b) if earlier else -1,
            "until_good": between(b + 1, later[0]) if later else -1,
            "long_prev": next((score[c] for c in range(b - 1, -1, -1) if page.rows[c]["tokens"] >= 20), -1),
            "long_next": next((score[c] for c in range(b + 1, page.size) if page.rows[c]["tokens"] >= 20), -1),
        }
        made = {name: float(x[b, CONTEXT_NAMES.index(name)]) for name in wanted}
        assert made == pytest.approx({name: float(value) for name, value in wanted.items()}, rel=1e-5)


def test_a_page_without_text_has_no_rows() -> None:
    """An empty page would end the run."""
    found = blocks("<nav><img src=x></nav>")
    empty: npt.NDArray[np.int32] = np.zeros(0, np.int32)
    assert matrix(found, WORD_WEIGHTS, TOKEN_WEIGHTS).shape == (0, len(NAMES))
    assert context(found, empty).shape == (0, len(CONTEXT_NAMES))


def test_no_two_columns_have_one_name() -> None:
    """A model made for other columns could pass for one of these."""
    assert len(set(NAMES)) == len(NAMES)
    assert len(set(CONTEXT_NAMES)) == len(CONTEXT_NAMES)
