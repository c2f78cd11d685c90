"""The scores that extractors are judged by: a wrong one would ship the worse model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.extract.folds import fold
from tests.bench.extract_scoring import (
    CRAWL,
    Counts,
    micro_f1,
    page_sets,
    pages,
    paired_bootstrap,
    paired_micro_bootstrap,
    site,
    snippet_counts,
    token_f1,
    tokens,
)


def test_tokens_are_words_and_characters() -> None:
    """A Chinese page would be one token, and any fault of it would score 0."""
    assert tokens("Don't STOP, 3.5 Ünï_1") == ["don", "t", "stop", "3", "5", "ünï_1"]
    assert tokens("日本語カ が") == ["日", "本", "語", "カ", "が"]
    assert tokens("abc中文def") == ["abc", "中", "文", "def"]
    assert tokens("हिन्दी 한국어") == ["हिन्दी", "한국어"]
    assert tokens("ที่นี่") == ["ที่", "นี่"]


def test_token_f1_counts_how_often_a_token_stands() -> None:
    """Texts that repeat the menu on every line would score as well as clean ones."""
    score = token_f1("a a a b", "A b c")
    assert score == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert token_f1("", "").f1 == 1
    assert token_f1("a", "").f1 == token_f1("", "a").f1 == token_f1("b", "a").f1 == 0
    assert token_f1("d c b a", "a b c d").f1 == 1
    assert token_f1("d c b a", "a b c d", n=4).f1 == 0
    assert token_f1("a b c d e", "a b c d f", n=4).f1 == 0.5


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_token_f1_is_symmetric_and_bounded(one: str, other: str) -> None:
    """Precision and recall would be exchanged, or a score leave its range."""
    there, back = token_f1(one, other), token_f1(other, one)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert 0 <= there.f1 <= 1
    assert token_f1(one, one).f1 == 1


def test_snippets_count_as_in_the_evaluation_of_trafilatura() -> None:
    """Our figure could not be held against the published ones."""
    text = "One\n  two three.\nMenu"
    assert snippet_counts(text, ["One two", "four"], ["Menu", "Login"]) == (1, 1, 1, 1)
    assert micro_f1([Counts(3, 1, 0, 0), Counts(0, 0, 2, 5)]) == pytest.approx(6 / 9)
    assert micro_f1([]) == 0


def test_bootstrap_is_paired_and_repeatable() -> None:
    """Two runs would print two intervals, or a sure gain would drown in the spread between pages."""
    theirs = np.random.default_rng(1).random(200)
    found = paired_bootstrap(theirs + 0.01, theirs)
    assert found == pytest.approx((0.01, 0.01, 0.01))
    noise = np.random.default_rng(2).normal(0, 0.1, 200)
    found = paired_bootstrap(theirs + noise, theirs, resamples=2000)
    assert found == paired_bootstrap(theirs + noise, theirs, resamples=2000)
    assert found.low < found.mean < found.high
    # the width of the normal interval of a mean, within the spread of a bootstrap
    assert found.high - found.low == pytest.approx(2 * 1.96 * noise.std() / 200**0.5, rel=0.1)
    counts = [Counts(1, 0, 1, 0), Counts(2, 1, 0, 1)]
    assert paired_micro_bootstrap(counts, counts, resamples=50) == (0, 0, 0)
    with pytest.raises(ValueError, match="same pages"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_a_site_lies_in_one_fold() -> None:
    """A model would be scored on templates that it was trained on."""
    assert site("https://news.bbc.co.uk/a") == site("http://www.bbc.co.uk:80/b") == "bbc.co.uk"
    assert site(None) == site("nonsense") == site("http://[broken/") == ""
    assert {fold(f"site{number}.org") for number in range(100)} == {0, 1, 2, 3, 4}
    assert [fold(name) for name in ("bbc.co.uk", "python.org", "zhihu.com")] == [4, 1, 0]
    with pytest.raises(ValueError, match="at least one"):
        fold("bbc.co.uk", 0)


@pytest.mark.skipif(not CRAWL.exists(), reason="the shared pages with gold text are not here")
def test_the_pages_are_all_there() -> None:
    """Figures would be given for a part of the pages."""
    found = pages()
    sizes = {name: len(members) for name, members in page_sets(found).items()}
    assert len(found) == len({page.id for page in found}) == 2519
    assert sizes["wcxb"] == sum(sizes[name] for name in sizes if name.startswith("wcxb/")) == 1139
    assert (sizes["magic"], sizes["trafilatura"], sizes["webkit"], sizes["spaceless"]) == (121, 950, 294, 52)
    assert all(page.payload for page in found)


def test_absent_data_is_said() -> None:
    """A checkout without the data would fail with a traceback that names no cause."""
    with pytest.raises(FileNotFoundError, match="not there"):
        pages(CRAWL / "nowhere")
