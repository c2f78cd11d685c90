"""Titles and dates as pages state them, in many spellings and languages."""

# ruff: noqa: E501

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.extract.dates import parse
from stages.extract.metadata import from_html


@pytest.mark.parametrize(
    ("text", "language", "date"),
    [
        ("2019-05-07T13:43:46-05:00", "", datetime(2019, 5, 7, 13, 43, 46)),
        ("20190507", "", datetime(2019, 5, 7)),
        ("Tue, 07 May 2019 08:45:00 GMT", "", datetime(2019, 5, 7, 8, 45)),
        ("Posted May 7th, 2019 at 8:45", "en", datetime(2019, 5, 7, 8, 45)),
        ("Dec. 19, 2025 · somebody", "en", datetime(2025, 12, 19)),
        ("Donnerstag, 31. Mai 2012", "de", datetime(2012, 5, 31)),
        ("22 kwietnia 2021", "pl", datetime(2021, 4, 22)),
        ("7 de mayo de 2019", "es", datetime(2019, 5, 7)),
        ("1er février 2020", "fr", datetime(2020, 2, 1)),
        ("7 мая 2019 г.", "ru", datetime(2019, 5, 7)),
        ("2019. május 7.", "hu", datetime(2019, 5, 7)),
        ("2020年01月12日18:32", "zh", datetime(2020, 1, 12)),
        ("2020년 1월 12일", "ko", datetime(2020, 1, 12)),
        ("18. 05. 2014", "", datetime(2014, 5, 18)),
        ("07-29-2008", "", datetime(2008, 7, 29)),
        ("7/5/2019", "en-US", datetime(2019, 7, 5)),
        ("7/5/2019", "it", datetime(2019, 5, 7)),
        ("7/5/2019", "en", None),  # nobody can know
        ("31 February 2020", "", None),
        ("version 2.19.2020.7", "", None),
        ("1200 words", "", None),
        ("7 Maybe 2019", "", None),
    ],
)
def test_dates_in_many_spellings(text: str, language: str, date: datetime | None) -> None:
    """Else mixtures by date would lose a language, or sort its pages under another day."""
    assert parse(text, language) == date


@given(st.text("0123456789-/.: TZ年月日Mayde,", max_size=40), st.sampled_from(["", "en", "en-US", "de", "x"]))
def test_no_text_stops_the_reading_of_dates(text: str, language: str) -> None:
    """Else one odd page would end a run."""
    found = parse(text, language)
    assert found is None or found.year >= 1990


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>Managing dependencies - The Go Language</title>", "<h1>Managing dependencies</h1>", "Managing dependencies"),
        ("<title>New Links | Hacker News</title>", "", "New Links"),
        ("<title>Just a title</title>", "<h1>Another thing entirely</h1>", "Just a title"),
        ('<title>x</title><meta property="og:title" content="A guide | Site"><meta property="og:site_name" content="Site">', "", "A guide"),
        ('<title>Example: a guide</title><meta property="og:title" content="Example: a guide">', "", "Example: a guide"),
        ("<title>A guide – Example</title>", "<h1>Example</h1><h1>A guide¶</h1>", "A guide"),
        ("<title>从入门到精通_技术频道_新浪网</title>", "", "从入门到精通_技术频道"),
        ("<title>ngx_http_rewrite_module</title>", "", "ngx_http_rewrite_module"),
        ("<title>静夜思 - 古诗文网</title>", "<h1>静夜思</h1>", "静夜思"),
        ("", "<h1>Only a heading</h1>", "Only a heading"),
        ("<title> </title>", "", None),
    ],
)  # fmt: skip
def test_titles_without_the_name_of_the_site(head: str, body: str, title: str | None) -> None:
    """Else the site's name would be a page's most frequent words wherever titles are trained on."""
    page = f"<html><head>{head}</head><body>{body}<p>text</p></body></html>"
    assert from_html(page, "https://www.example.org/a").title == title


@pytest.mark.parametrize(
    ("url", "head", "body", "date"),
    [
        ("", '<meta property="article:published_time" content="2020-02-24T21:25:54-05:00">', "<p>12 May 2021</p>", datetime(2020, 2, 24, 21, 25, 54)),
        ("/2019/05/12/a", '<meta name="date" content="2019-05-11">', "", datetime(2019, 5, 11)),
        ("/2019/05/12/a", "", '<time datetime="2021-01-01">x</time>', datetime(2019, 5, 12)),
        ("", "", '<div class="comment">3 March 2022</div><p class="post-date">8. Dezember 2012</p>', datetime(2012, 12, 8)),
        ("", "", '<p>In 2001 all was well, and on 7 May 2019 nothing was, as a long line of text says to its readers.</p>', None),
        ("", "", "<h2>A title</h2><p>7 May 2019</p><p>text</p>", datetime(2019, 5, 7)),
        ("", "", '<footer><p class="copyright">© 7 May 2019</p></footer>', None),
        ("", '<script type="application/ld+json">{"@type": "NewsArticle", "datePublished": "2019-05-07"}</script>', "", datetime(2019, 5, 7)),
        ("", '<script type="application/ld+json">{"@type": "NewsArticle", "datePublished": "2019-05-07", </script>', "", datetime(2019, 5, 7)),
    ],
)  # fmt: skip
def test_the_date_of_publication(url: str, head: str, body: str, date: datetime | None) -> None:
    """Else a comment's day, or a day that a text tells of, would be taken for the page's."""
    page = f"<html><head>{head}</head><body>{body}</body></html>"
    assert from_html(page, f"https://example.org{url}").date == date
