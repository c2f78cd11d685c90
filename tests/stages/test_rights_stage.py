"""What pages and servers say may not be done with a page, and under which licence it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import batch, bound, reasons

from stages.base import Outcome
from stages.extract import Extract
from stages.extract.head import Head
from stages.extract.rights import FROM, normal, of_headers, read
from stages.extract.rights import Rights as Found
from stages.extract.scan import canonical, scan
from stages.registry import STAGES, make
from stages.rights import Rights

BY = "https://creativecommons.org/licenses/by/4.0/"
BY_NC = "http://creativecommons.org/licenses/by-nc-sa/3.0/deed.es_ES"
URL = "https://example.org/a/b.html"


def found(html: str, headers: str | None = None) -> Found:
    return read(Head(scan(canonical(html))), URL, headers)


@pytest.mark.parametrize(
    ("html", "robots"),
    [
        ('<meta name="robots" content="noai, noimageai">', "noai,noimageai"),
        ("<META NAME=ROBOTS CONTENT='NoIndex,NOFOLLOW'>", "nofollow,noindex"),
        ('<meta name="robots" content="none">', "nofollow,noindex"),
        ('<meta name="robots" content="index, follow, max-image-preview:large, max-snippet:-1">', None),
        ('<meta name="googlebot" content="noarchive"><meta name="GPTBot" content="noindex">',
         "googlebot:noarchive,gptbot:noindex"),
        ('<meta name="robots" content="noindex"><meta name="robots" content="noai">', "noai,noindex"),
        ('<meta name="robots" content="unavailable_after: 25 Jun 2010 15:00:00 PST">', "unavailable_after"),
        ('<meta name="tdm-reservation" content="1"><meta name="tdm-policy" content="https://a.org/p.json">', "tdm"),
        ('<meta name="tdm-reservation" content="0">', None),
        ('<meta http-equiv="X-Robots-Tag" content="noai, gptbot: noindex">', "gptbot:noindex,noai"),
        ('<meta name="robots" content="noindex，noai"><meta name="robots" content="nofollow/noarchive">',
         "noai,noarchive,nofollow,noindex"),
        ('<meta name="360Spider" content="noarchive"><meta name="SeznamBot" content="noindex">'
         '<meta name="robots-text" content="noai"><meta name="googlebot-video" content="noindex">',
         "360spider:noarchive,googlebot-video:noindex,seznambot:noindex"),
        ('<meta name="description" content="noai noindex">', None),
        ("<p>&lt;meta name=robots content=noai&gt;</p>", None),
        ('<script>document.write(\'<meta name="robots" content="noai">\')</script>', None),
        ('<!-- <meta name="robots" content="noai"> -->', None),
    ],
)  # fmt: skip
def test_signals_of_a_page(html: str, robots: str | None) -> None:
    """Else a page that asks not to be used would be, or one that permits it would not."""
    assert found(f"<html><head>{html}</head><body><p>Text.</p>").robots == robots


@pytest.mark.parametrize(
    ("headers", "robots"),
    [
        ("x-robots-tag: noindex, noai", "noai,noindex"),
        ("X-Robots-Tag: slurp: noai, noindex\nx-robots-tag: noarchive", "noarchive,slurp:noai,slurp:noindex"),
        ("x-robots-tag: googlebot: noai, gptbot: noai", "googlebot:noai,gptbot:noai"),
        ("x-robots-tag: max-snippet: 20, nosnippet", "nosnippet"),
        ("x-robots-tag: unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "noai,unavailable_after"),
        ("tdm-reservation: 1", "tdm"),
        ("tdm-reservation: 1, 1", "tdm"),
        ("tdm-reservation: 0\nx-robots-tag: all\nnonsense\n:", None),
        (None, None),
    ],
)  # fmt: skip
def test_signals_of_a_server(headers: str | None, robots: str | None) -> None:
    """Else what a server says of all its pages, PDFs and texts too, would not count."""
    assert of_headers(headers).robots == robots
    assert found("<p>Text.", headers).robots == robots


def test_page_and_server_add_up() -> None:
    """Whoever of the two asks it, the page is not to be used."""
    assert found('<meta name="robots" content="noai">', "x-robots-tag: noindex").robots == "noai,noindex"


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        (BY, "CC-BY-4.0"),
        (BY_NC, "CC-BY-NC-SA-3.0"),
        ("//creativecommons.org/licenses/by-nc-nd/2.0/uk/", "CC-BY-NC-ND-2.0"),
        ("https://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/deed.de", "CC-PDM-1.0"),
        ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
        ("https://creativecommons.org/licenses/by/", "CC-BY"),
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("Creative Commons BY-SA", "CC-BY-SA"),
        ("CC BY SA-NC 2.5", "CC-BY-NC-SA-2.5"),
        ("CC0", "CC0-1.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("http://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/", "OGL-UK-3.0"),
        ("/terms", "https://example.org/terms"),
        ("https://creativecommons.org/licenses/", "https://creativecommons.org/licenses/"),
        ("https://creativecommons.org/licenses/by-evil/4.0/", "https://creativecommons.org/licenses/by-evil/4.0/"),
        ("javascript:alert(1)", None),
        ("All rights reserved", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_licences_have_one_name(stated: str, name: str | None) -> None:
    """Else a list of licences would have to name each address of each."""
    assert normal(stated, URL) == name


@pytest.mark.parametrize(
    ("html", "license", "where"),
    [
        (f'<p>Under <a class="x" rel="license" href="{BY_NC}">CC</a>.', "CC-BY-NC-SA-3.0", "rel"),
        (f'<head><link rel="license" href="{BY}"></head><p>Text.', "CC-BY-4.0", "rel"),
        (f'<a href="{BY}" rel="nofollow LICENSE noopener">x</a>', "CC-BY-4.0", "rel"),
        (f'<a href="{BY}?ref=chooser-v1" rel="License noopener">x</a>', "CC-BY-4.0", "rel"),
        (f'<a href="{BY}" rel="nofollow license noopener">x</a>', "CC-BY-4.0", "rel"),
        ('<a rel="license" href="/impressum">x</a>', "https://example.org/impressum", "rel"),
        (f'<meta name="dc.rights" content="{BY}"><a rel="license" href="{BY_NC}">pictures</a>', "CC-BY-4.0", "meta"),
        ('<meta name="DC.rights" content="(C) 2021"><meta name="copyright" content="https://a.org">', None, None),
        ('<meta name="dcterms.license" content="https://a.org/terms">', "https://a.org/terms", "meta"),
        ('<script type="application/ld+json">{"@type": "NewsArticle", "license": "https://creativecommons.org/licenses/by'
         '\\u002Dnc\\u002Dsa/4.0/legalcode"}</script>', "CC-BY-NC-SA-4.0", "json-ld"),
        ('<script type="application/ld+json">{"@type": "QAPage", "license": {"name": "CC BY-SA 4.0"}}</script>',
         "CC-BY-SA-4.0", "json-ld"),
        ('<script type="application/ld+json">{"@type": "QAPage", "license": {"name": "Terms"}}</script>', None, None),
        ('<script type="application/ld+json">{"@type": "ImageObject", "license": "' + BY + '"}</script>', None, None),
        ('<script type="application/ld+json">{"@type": "WebPage", "license": {"@type": "CreativeWork", "url": "' + BY
         + '"}, "image": {"@type": "ImageObject", "license": "' + BY_NC + '"}}</script>', "CC-BY-4.0", "json-ld"),
        (f'<a rel="license" href="{BY}">a</a><a rel="license" href="{BY_NC}">b</a>', None, None),
        (f'<a rel="license" href="{BY}">a</a><a rel="license" href="{BY}deed.de">b</a>', "CC-BY-4.0", "rel"),
        (f'<p>Photo: <a href="{BY}">CC BY</a>', "CC-BY-4.0", "link"),
        ('<a href="https://creativecommons.org/">a</a><a href="//creativecommons.org/licenses/">x</a>', None, None),
        (f"<p>{BY} is a licence, and license rel=license too.", None, None),
        ('<base href="https://other.org/"><a rel="license" href="l">x</a>', "https://other.org/l", "rel"),
    ],
)  # fmt: skip
def test_licence_of_a_page(html: str, license: str | None, where: str | None) -> None:
    """Else a corpus would count pages as free that are not, by a picture's licence or by two that disagree."""
    assert found(html)[1:] == (license, where)


def test_licence_that_the_server_states() -> None:
    """A link in the header is as good as one in the page."""
    link = f'link: <https://a.org/style.css>; rel=preload, <{BY}>; rel="license"'
    assert found("<p>Text.", link)[1:] == ("CC-BY-4.0", "header")
    assert of_headers(link)[1:] == ("CC-BY-4.0", "header")
    assert of_headers(f"link: <{BY}>; rel=license")[1:] == ("CC-BY-4.0", "header")
    assert of_headers(f"link: <{BY}>; rel=preload; title=license")[1:] == (None, None)


PIECES = st.sampled_from([
    "<a ", "<link ", ' rel="license"', " rel='license", ' href="', BY, BY_NC, '">', "<", ">", '"', "license" * 30,
    '<meta name="robots" content="', "noai", "tdm-reservation", '<script type="application/ld+json">', '{"@type":',
    '"license":', "[" * 50, "}", "</script>", "http://[", "\\u002D", "creativecommons.org/" * 20, "&#999999999999;",
    "dc.rights", "😀", "\x00",
])  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=30).map("".join), st.none() | st.text(max_size=60))
def test_no_page_and_no_header_raises(html: str, headers: str | None) -> None:
    """Pages are anybody's: one that broke this would be lost as `extractor_failed`."""
    made = found(html, headers)
    assert made.license_from is None or made.license_from in FROM
    assert (made.license is None) == (made.license_from is None)


def judged(stage: Rights, *rows: tuple[str | None, str | None, str | None]) -> Outcome:
    robots, licenses, places = zip(*rows, strict=True)
    table = batch(["A text."] * len(rows))
    for name, values in (("robots", robots), ("license", licenses), ("license_from", places)):
        table = table.append_column(name, [*values])
    return stage.process(table)


def test_signals_take_documents_out() -> None:
    """The reason names the signal, so that the funnel says how many asked for what."""
    rows = [("noai,noindex", None, None), ("tdm", None, None), ("gptbot:noai", None, None), (None, None, None)]
    assert reasons(judged(Rights(), *rows)) == [(0, "noai"), (1, "tdm")]
    assert reasons(judged(Rights(drop=("noindex",)), *rows)) == [(0, "noindex")]
    assert reasons(judged(Rights(agents=("gptbot",)), *rows)) == [(0, "noai"), (1, "tdm"), (2, "noai")]
    assert reasons(judged(Rights(agents=("*",)), *rows)) == [(0, "noai"), (1, "tdm"), (2, "noai")]
    assert reasons(judged(Rights(agents=("ccbot",), drop=()), *rows)) == []


def test_licences_that_are_wanted() -> None:
    """A corpus of free texts must hold no text whose licence nobody knows, or is that of a picture."""
    rows = [
        (None, "CC-BY-4.0", "rel"), (None, "CC-BY-NC-4.0", "meta"), (None, None, None), (None, "CC-BY-4.0", "link"),
        (None, "https://a.org/terms", "rel"), (None, "CC-BY-SA-3.0", "json-ld"),
    ]  # fmt: skip
    free = ("CC-BY-4.0", "CC-BY-SA-*", "CC0-1.0")
    assert reasons(judged(Rights(licenses=free), *rows)) == [(1, "license"), (4, "license")]
    strict = judged(Rights(licenses=free, keep_unknown=False), *rows)
    assert reasons(strict) == [(1, "license"), (2, "no_license"), (3, "no_license"), (4, "license")]
    trusting = Rights(licenses=free, keep_unknown=False, trust=FROM)  # type: ignore[arg-type]
    assert reasons(judged(trusting, *rows)) == [(1, "license"), (2, "no_license"), (4, "license")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": ["noia"]}, "drop: there is no 'noia'. Did you mean 'noai'"),
        ({"agents": ["GPTBot"]}, "agents: there is no 'GPTBot'. Did you mean 'gptbot'"),
        ({"trust": ["footer"]}, "trust"),
        ({"licenses": ["cc-by-4.0"]}, "licenses: there is no 'cc-by-4.0'. Did you mean 'CC-BY-4.0'"),
        ({"licenses": ["CC-BY-*", "all"]}, "licenses: there is no 'all'. Others go by their addresses"),
    ],
)
def test_mistakes_are_named(settings: dict[str, list[str]], message: str) -> None:
    """Else a typing error would let every page pass."""
    with pytest.raises(ValueError, match=message):
        make(STAGES["rights"], settings)


def test_extract_writes_the_columns_of_pages_and_of_plain_text() -> None:
    """The stage has nothing else to go by."""
    page = f'<meta name="robots" content="noai"><article><p>Some text, and more.</p><a rel="license" href="{BY}">x</a>'
    table = batch(
        [None, None, "Text."], payload=[page.encode(), b"Plain text.", None],
        content_type=["text/html", "text/plain", None], headers=[None, "x-robots-tag: noindex", None],
    )  # fmt: skip
    made = bound(Extract())(table).batch
    assert made.column("robots").to_pylist() == ["noai", "noindex", None]
    assert made.column("license").to_pylist() == ["CC-BY-4.0", None, None]
    assert made.column("license_from").to_pylist() == ["rel", None, None]
    assert "headers" not in made.schema.names
    assert reasons(Rights().process(made)) == [(0, "noai")]
