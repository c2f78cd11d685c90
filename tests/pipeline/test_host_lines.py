"""Boilerplate lines of a host, held against counting in dictionaries; no run around it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from host_reference import Page, batch_of, phase, reference
from hypothesis import given
from hypothesis import strategies as st

from pipeline import hostlines
from pipeline.edits import apply
from pipeline.hostlines import Records, Table, host_keys
from pipeline.recipe import RepeatedLines
from stages.quality.c4 import C4, C4Paragraphs
from stages.quality.fineweb import FineWebQuality
from stages.quality.gopher import GopherQuality
from tests.bench.host_planting import SHARED, generated_pages, real_pages, scored, spread

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the large test data (../shared/data beside the checkout) is not here"
)

LINES = [
    "Home | About | Contact us", "Menu", "Subscribe to the newsletter of this site for more of it", "}", "", " ", "a",
    "版权所有", "版权所有，未经许可不得转载本网站内容，违者必究", "جميع الحقوق محفوظة لهذا الموقع الإلكتروني الكبير",
    "  return 1",
    "\treturn None if there is nothing at all to be returned", "\u3000全部目录", "e\u0301te\u0301 2024", "I Ⅳ ½",
    "x" * 40,
]  # fmt: skip
LINE = st.one_of(st.sampled_from(LINES), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
TEXT = st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r\n", "\n\n", " \n"])), max_size=6).flatmap(
    lambda pairs: st.sampled_from(["".join(a + b for a, b in pairs), "".join(a + b for a, b in pairs).rstrip("\r\n")])
)
URL = st.sampled_from(
    [None, "https://a.example/1", "http://www.a.example/2", "https://b.example/x", "https://c.example/"]
)
PAGES = st.lists(st.builds(Page, URL, st.one_of(TEXT, st.none()), st.sampled_from(["web", "books"])), max_size=14)
SETTINGS = st.builds(
    RepeatedLines,
    min_pages=st.integers(2, 4),
    min_share=st.sampled_from([0, 0.02, 0.5, 1]),
    min_letters=st.sampled_from([1, 4]),
    long_line=st.sampled_from([1, 30, 1000]),
    max_characters=st.sampled_from([20, 300]),
    max_cut=st.sampled_from([0.3, 0.5, 1]),
    sources=st.sampled_from([[], ["web"]]),
)


@given(PAGES, SETTINGS, st.integers(1, 3), st.integers(0, 14), st.sampled_from([1, 4, 1 << 20]))
def test_as_counting_in_dictionaries(
    pages: list[Page], settings: RepeatedLines, ranges: int, cut: int, budget: int
) -> None:
    """Else lines would be cut that are no boilerplate, or texts around them come back changed."""
    batch = batch_of(pages)
    batches = [batch.slice(0, cut), batch.slice(cut)] if cut < len(pages) else [batch]
    with tempfile.TemporaryDirectory() as folder:
        found = phase(batches, settings, Path(folder), ranges=ranges, budget=budget)
    expected = reference(pages, settings)
    assert found.texts == expected
    empty = [row for row, (page, text) in enumerate(zip(pages, expected, strict=True))
             if text != page.text and text is not None and not text.strip()]  # fmt: skip
    assert [(row, reason) for row, reason, *_ in found.dropped] == [(row, "host.empty") for row in empty]
    changed = [(page.text, text) for row, (page, text) in enumerate(zip(pages, expected, strict=True))
               if page.text is not None and text is not None and row not in empty]  # fmt: skip
    assert found.figures["characters_cut"] == sum(len(before) - len(after) for before, after in changed)


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.text(max_size=8)), st.lists(st.integers(0, 20), max_size=6)), max_size=5
    ),
    st.integers(0, 2),
)
def test_spans_are_cut_as_python_does(rows: list[tuple[str | None, list[int]]], skip: int) -> None:
    """Else every text behind a phase with edits would be another one than its edits say."""
    texts, starts, ends, expected = [], [], [], []
    for text, numbers in rows:
        bounds = [0, *np.cumsum([len(c.encode()) for c in text or ""]).tolist()]
        cuts = sorted({bounds[number % len(bounds)] for number in numbers})
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        data = (text or "").encode()
        gone = {place for start, end in spans for place in range(start, end)}
        texts.append(text)
        starts.append([start for start, _ in spans])
        ends.append([end for _, end in spans])
        left = bytes(byte for place, byte in enumerate(data) if place not in gone).decode()
        expected.append(None if text is None else left)
    column, kind = pa.array(texts, pa.string()), pa.list_(pa.int32())
    found = apply(column.slice(skip), pa.array(starts, kind).slice(skip), pa.array(ends, kind).slice(skip))
    assert found.to_pylist() == expected[skip:]


def test_texts_without_spans_are_no_copy() -> None:
    """Else a corpus of which little is cut would be copied in memory as a whole."""
    column = pa.array(["a", None, "b"])
    none = pa.array([[], [], []], pa.list_(pa.int32()))
    assert apply(column, none, none) is column


def test_spans_that_do_not_fit_are_refused() -> None:
    """Else edits of one part applied to another would give texts that nobody wrote."""
    kind = pa.list_(pa.int32())
    for starts, ends in ([[0, 1]], [[2, 3]]), ([[1]], [[9]]), ([[0]], [[]]):
        with pytest.raises(ValueError, match=r"out of order|spans begin"):
            apply(pa.array(["abc"]), pa.array(starts, kind), pa.array(ends, kind))


def many(number: int, host: str = "site.example") -> list[Page]:
    """Pages with nothing in common but their host."""
    return [
        Page(f"https://{host}/{row}", f"Page {row} says what no other one says.\nIts end {row}.")
        for row in range(number)
    ]


def test_copies_of_a_page_are_one_page(tmp_path: Path) -> None:
    """Else twenty copies of one page would all lose their text before deduplication can keep one of them."""
    text = "A text that stands on this one page and nowhere else.\nIts second line is as long as the first, or longer."
    copies = [Page(f"https://site.example/?copy={row}", text.upper() if row % 2 else f" {text}!") for row in range(50)]
    pages = copies + many(30)
    assert phase([batch_of(pages)], RepeatedLines(max_cut=1), tmp_path).texts == [page.text for page in pages]


def test_a_page_that_is_mostly_boilerplate_is_left_to_deduplication(tmp_path: Path) -> None:
    """Else a page with a counter in it, crawled twenty times, would be left as twenty counters."""
    body = "\n".join(f"The line {line} of the article stands on each of these pages alike." for line in range(9))
    pages = [Page(f"https://site.example/{row}", f"{body}\nRead {row} times") for row in range(30)]
    found = phase([batch_of(pages)], RepeatedLines(), tmp_path)
    assert found.texts == [page.text for page in pages]
    assert found.figures["left_whole"] == 30
    found = phase([batch_of(pages)], RepeatedLines(max_cut=1), tmp_path)
    assert found.texts == [f"Read {row} times" for row in range(30)]


def test_short_lines_go_at_the_edges_alone(tmp_path: Path) -> None:
    """Else headings, braces and lines of code that many pages share would be cut out of the middle of their texts."""
    pages = [
        Page(
            page.url,
            f"Home\n\nSign in\n{page.text}\nIngredients\n}}\n    return result\n{page.text}\n}}\nImprint\nPrivacy",
        )
        for page in many(30)
    ]
    found = phase([batch_of(pages)], RepeatedLines(), tmp_path)
    assert found.texts == [
        f"\n{page.text}\nIngredients\n}}\n    return result\n{page.text}\n}}" for page in many(30)
    ]  # fmt: skip
    assert (found.figures["lines_cut"], found.figures["documents_cut"]) == (4 * 30, 30)


def test_the_rest_of_a_page_is_what_it_was_to_the_byte(tmp_path: Path) -> None:
    """Else cutting a footer would change line breaks that it has nothing to do with."""
    footer = "All rights reserved by the owner of site.example since 1999"
    made = {
        "end": ("{0}\n" + footer, "{0}"),
        "end with a break": ("{0}\n" + footer + "\n", "{0}\n"),
        "start": (footer + "\n{0}", "{0}"),
        "carriage": ("{0}\r\n" + footer, "{0}"),
        "carriage inside": ("{0}\r\n" + footer + "\r\n{0}\r\n", "{0}\r\n{0}\r\n"),
        "blank lines": ("{0}\n\n" + footer + "  \n\n{0}", "{0}\n\n\n{0}"),
        "twice": (footer + "\n" + footer + "\n{0}\n" + footer + "\n" + footer, "{0}"),
    }
    for number, (name, (before, after)) in enumerate(made.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        pages = [page._replace(text=before.format(page.text)) for page in many(30)]
        found = phase([batch_of(pages)], RepeatedLines(max_cut=1), folder)
        assert found.texts == [after.format(page.text) for page in many(30)], name


def test_a_host_has_one_spelling_and_documents_without_one_are_left(tmp_path: Path) -> None:
    """Else `www.` or capitals would halve the pages that are counted, or all pages without a URL be one host."""
    urls = pa.array(
        [
            "https://www.Site.example/a",
            "http://SITE.example:80/b",
            "//user@site.example",
            "urn:x",
            None,
            "",
            "file:///a",
        ]
    )
    found = host_keys(urls, "host")
    assert found.known.tolist() == [True] * 3 + [False] * 4
    assert len(np.unique(found.keys[:3], axis=0)) == 1
    pair = pa.array(["https://shop.firm.co.uk/", "https://blog.firm.co.uk/", "https://other.co.uk/"])
    assert len(np.unique(host_keys(pair, "host").keys, axis=0)) == 3
    by_domain = host_keys(pair, "domain").keys
    assert (by_domain[0] == by_domain[1]).all()
    assert (by_domain[0] != by_domain[2]).any()
    footer = "All rights reserved by the owner of the page since 1999"
    lone = [Page(None, f"{page.text}\n{footer}") for page in many(40)]
    assert phase([batch_of(lone)], RepeatedLines(), tmp_path).texts == [page.text for page in lone]


def test_a_line_of_few_pages_of_a_large_host_stays(tmp_path: Path) -> None:
    """Else what people say alike on a forum of thousands of pages would be cut from all of them."""
    line = "Thank you all for your help, it was the fan after all"
    pages = [Page(page.url, f"{page.text}\n{line}") for page in many(24)] + many(2_000)[24:]
    assert phase([batch_of(pages)], RepeatedLines(), tmp_path).texts == [page.text for page in pages]
    found = phase([batch_of(pages)], RepeatedLines(min_share=0.01, max_cut=1), tmp_path)
    assert found.figures["lines_cut"] == 24


def test_length_rules_are_judged_again(tmp_path: Path) -> None:
    """Else stubs shorter than the recipe allows would stay in the corpus, since they were long with their menu."""
    menu = "The menu of this site has many words in it, so that each of its pages looks like a text of some length"
    pages = [Page(page.url, f"{menu}\n{page.text * (1 + row % 2)}") for row, page in enumerate(many(40))]
    limits = GopherQuality(min_words=15, min_stop_words=2, by_language={"de": {"min_words": 3, "max_symbols": 0.5}})
    rules = limits.length_rules()
    assert rules.by_language == {"de": {"min_words": 3}}
    found = phase([batch_of(pages)], RepeatedLines(max_cut=1), tmp_path, [("gopher_quality", rules.process)])
    assert [(row, reason, limit) for row, reason, _, limit in found.dropped] == [
        (row, "gopher_quality.few_words", 15.0) for row in range(0, 40, 2)
    ]
    assert {value for _, _, value, _ in found.dropped} == {11.0}
    assert found.figures["documents_cut"] == 20
    assert phase([batch_of(many(40))], RepeatedLines(), tmp_path, [("gopher_quality", rules.process)]).dropped == []


def test_what_of_a_stage_is_a_rule_on_length() -> None:
    """Else a document would be dropped for what it was already judged by, or kept whatever is left of it."""
    poor = batch_of([Page(None, "- # ... {x}\n" * 60), Page(None, "One.")])
    found = GopherQuality().length_rules()
    assert [reason for _, reason, *_ in found.bind({"stop_words": b'{"en": ["the"]}'})(poor).dropped] == ["few_words"]
    sentences = C4(line_phrases=("x",), page_phrases=("one",)).length_rules().bind({})(poor)
    assert Counter(reason for _, reason, *_ in sentences.dropped) == {"few_sentences": 1}
    assert C4Paragraphs().length_rules() == C4Paragraphs()
    assert FineWebQuality().length_rules() is None


def test_a_line_of_a_host_with_more_pages_than_fit_is_counted_in_pieces(tmp_path: Path) -> None:
    """Else one host with a million pages would take as much memory as its menu has occurrences."""
    rng = np.random.default_rng(4)
    pairs = {(int(key), int(page)) for key, page in rng.integers(0, [40, 500], (4_000, 2))}
    pairs |= {(7, page) for page in range(3_000)}
    keys = rng.integers(0, 1 << 63, (40, 2)).astype(np.uint64)
    pages = rng.integers(0, 1 << 63, 3_000).astype(np.uint64)
    chosen = sorted(pairs)
    records = Records(*(np.array(x, np.uint64) for x in zip(*((*keys[k], pages[p]) for k, p in chosen), strict=True)))
    paths = []
    for number in range(3):
        paths.append(tmp_path / str(number))
        hostlines.write(paths[-1], hostlines.distinct(Records(*(column[number::3].copy() for column in records))))
    expected = {tuple(keys[key].tolist()): n for key, n in Counter(key for key, _ in pairs).items() if n >= 60}
    for budget in (100, 1_000, 1 << 20):
        tables = list(hostlines.pages_of_lines(paths, 0, 1 << 64, 60, budget))
        found = Records(*(np.concatenate(column) for column in zip(*tables, strict=True)))
        assert (
            dict(zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.value.tolist(), strict=True))
            == expected
        )
        assert (np.diff(found.first.astype(object)) > 0).all()


def test_keys_that_are_half_equal_are_two_keys(tmp_path: Path) -> None:
    """Else two lines whose hashes meet in 64 bits would be counted together, and a text cut for another's sake."""
    first = np.array([5, 5, 5, 5, 9], np.uint64)
    second = np.array([2, 1, 2, 1, 1], np.uint64)
    page = np.array([8, 7, 6, 7, 7], np.uint64)
    hostlines.write(tmp_path / "a", hostlines.distinct(Records(first, second, page)))
    (found,) = hostlines.pages_of_lines([tmp_path / "a"], 0, 1 << 64, 1, 100)
    assert [column.tolist() for column in found] == [[5, 5, 9], [1, 2, 1], [1, 2, 1]]
    hostlines.write(tmp_path / "b", found)
    table = Table([tmp_path / "b"])
    asked = np.array([5, 5, 5, 9, 1], np.uint64), np.array([2, 1, 3, 1, 1], np.uint64)
    assert table.pages(*asked).tolist() == [2, 1, 0, 1, 0]


def test_odd_texts_have_a_defined_fate(tmp_path: Path) -> None:
    """Else one hostile page would end a run, or take as long as all others together."""
    odd = ["", "\n" * 1_000, "\0" * 50, "x" * 2_000_000, "a\n" * 200_000, "\u0301\u0301", "　　", "\r\r\r", None]
    pages = [Page("https://odd.example/", text) for text in odd] + many(30, "odd.example")
    found = phase([batch_of(pages)], RepeatedLines(), tmp_path)
    assert found.texts == [page.text for page in pages]


def test_planted_lines_of_generated_pages() -> None:
    """Else lines of a host would be missed, or something else cut, as soon as no page is like those of other tests."""
    pages = {"generated": generated_pages(400, 11)}
    score = scored(spread(pages, ["generated"], 100, 3), RepeatedLines())
    assert (score.found, score.unplanted, score.wrong) == (score.planted, 0, 0)
    assert score.planted > 20_000


@needs_shared
def test_planted_lines_of_real_pages() -> None:
    """Else menus in some script would stay, or a real text lose what many of its kind say alike."""
    sources = {name: texts[:1_200] for name, texts in real_pages().items()}
    mixed = scored(
        spread(sources, ["web", "books", "encyclopedia_en", "encyclopedia_12", "science_zh"], 150, 1), RepeatedLines()
    )
    assert mixed.found >= 0.99 * mixed.planted > 200_000
    assert (mixed.unplanted, mixed.wrong) == (0, 0)
    for name in ("web", "books", "encyclopedia_12", "poetry_zh"):  # hosts whose pages are all of one kind
        alone = scored(spread(sources, [name], 150, 2), RepeatedLines())
        assert (alone.unplanted, alone.wrong) == (0, 0), name
        # of a poem shorter than its menu, what is left would be nothing beside what goes
        assert alone.found >= (0.95 if name == "poetry_zh" else 0.99) * alone.planted, name
