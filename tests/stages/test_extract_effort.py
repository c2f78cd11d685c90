"""The estimate of a parser's work: what would take it minutes never reaches it, and no real page is stopped."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import bound, pages, reasons

from stages.extract import Extract
from stages.extract.effort import MOST_WORK, effort
from stages.extract.scan import canonical

CRAWL = Path(__file__).parents[1] / "data" / "crawl"

HOSTILE = {
    "attributes of one tag": ("<p " + " ".join(f"a{i}=x" for i in range(9999)) + ">x") * 40,
    "attributes of html": "".join(f"<html a{i}=1>" for i in range(100_000)),
    "attributes of body": "".join(f"<body a{i}=1>" for i in range(100_000)),
    "lists in lists": "<ul><li>" * 70_000,
    "options": "<select>" + "<option>x" * 140_000,
    "misnested blocks": "<b><div>x</b>" * 45_000,
    "formatting": "".join(f"<b c={i}>" for i in range(40_000)),
    "formatting opened again": "<p>" + "".join(f"<b c={i}>" for i in range(180)) + "</p>" + "<p>x</p>" * 48_000,
    "formatting of a megabyte opened again": f"<p><code a='{'x' * 1_000_000}'></p>" + "<p>x</p>" * 400,
    "formatting of a megabyte behind that of a few bytes": f"<p><code a='{'x' * 1_000_000}'></p>"
    + "<p><code>x</code></p>" * 400,
    "anchors opened again": f"<p><a href='{'x' * 1_000_000}'></p>" + "<p>x</p>" * 400,
    "anchors opened again where blocks end": "<div>" * 400 + f"<a href='{'x' * 1_000_000}'>" + "</div>x" * 400,
    "tables": "<table><tr><td>" * 45_000,
    "unknown": "<x>" * 140_000,
    "drawings": "<svg><desc>" + "<g>" * 140_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_markup_that_takes_a_parser_minutes_is_dropped_unparsed(name: str) -> None:
    """One page of a few MB would hold a worker up for minutes, and cost it gigabytes of memory."""
    page = b"<!DOCTYPE html>" + HOSTILE[name].encode()
    assert effort(page).work > MOST_WORK
    ((_, reason),) = reasons(bound(Extract())(pages([page])))
    assert reason in ("too_complex", "too_deep")


BIG = f"<code a='{'x' * 20_000}'>"
KEPT = {
    "its like is closed in its place": f"{BIG}<code></code>",
    "a cell": f"{BIG}<table><tr><td></code></td></tr></table>",
    "in front of the table": f"<table>{BIG}<tr><td></code></table>",
    "a caption": f"{BIG}<table><caption></code></caption></table>",
    "an object": f"{BIG}<object></code></object>",
    "a template": f"{BIG}<template></code></template>",
    "a drawing's title": f"{BIG}<svg><title></code></title></svg>",
    "a formula's text": f"{BIG}<math><mtext></code></mtext></math>",
    "a drawing's data": f"{BIG}<svg><![CDATA[></code>]]></svg>",
    "a script in a script": f"{BIG}<script><!--<script></script></code>--></script>",
    "a script": f"{BIG}<script></code></script>",
    "an attribute": f"{BIG}<b a='</code>'></b>",
    "a comment": f"{BIG}<!-- </code> -->",
    "as if it closed itself": f"<svg><p></p>{BIG[:-1]}/>",
    "more blocks than a parser looks through": BIG + "<div>" * 12 + "</code>" + "</div>" * 12,
}


@pytest.mark.parametrize("name", KEPT)
def test_an_end_tag_that_does_not_count_hides_nothing(name: str) -> None:
    """A page of 2 MB would be written out as 560 MB: within a wall its `</code>` closes nothing."""
    page = f"<!DOCTYPE html><body><div>{KEPT[name]}</div>" + "<p>x</p>" * 50
    assert len(canonical(page)) > 40 * len(BIG)
    assert effort(page.encode()).work > len(canonical(page))


CLOSED = {
    "at once": "</code>",
    "around blocks": "<div><ul><li>x</li></ul></div></code>",
    "around a table": "<table><tr><td><b>x</b><td>y</td></tr></tbody></table></code>",
    "around a drawing": "<svg><title>x</title><g><path/></g></svg></code>",
    "around a drawing with HTML in it": "<svg><foreignObject><div>x</div></foreignObject></svg></code>",
    "around a choice": "<select><option>x</select></code>",
    "by the end of its cell": "</td></tr></table>",
}


@pytest.mark.parametrize("name", CLOSED)
def test_an_element_that_is_closed_weighs_nothing_any_more(name: str) -> None:
    """Ordinary pages would be dropped: each link with a picture, each old page that is a table."""
    page = f"<!DOCTYPE html><table><tr><td>{BIG}{CLOSED[name]}" + "<p>x</p>" * 50
    assert len(canonical(page)) < 2 * len(BIG)
    assert effort(page.encode()).work < 20 * len(BIG)


def test_real_pages_are_far_below() -> None:
    """Good pages would be lost."""
    found = []
    for path in sorted(CRAWL.glob("web-*.warc.gz")):
        with path.open("rb") as file:
            found += [effort(record.reader.read()) for record in ArchiveIterator(file)]
    assert len(found) > 200
    assert max(one.work for one in found) * 10 < MOST_WORK


NAMES = st.sampled_from(["div", "section", "span", "b", "ul", "x-y", "DIV", "em", "blockquote"])
ATTRIBUTES = st.lists(st.sampled_from(["a=1", "b='<p>'", 'c="x > y"', "d", "e = 2", "f=a/b"]), max_size=4)
TEXT = st.sampled_from(["", "word", "a < b", "<br>", "<img src=x>", "<!-- <div> -->", "<script>'<div><div>'</script>"])
TREES = st.recursive(
    TEXT.map(lambda text: (text, 0, 0)),
    lambda inner: st.tuples(NAMES, ATTRIBUTES, st.lists(inner, max_size=3)).map(
        lambda one: (
            f"<{' '.join([one[0], *one[1]])}>{''.join(part[0] for part in one[2])}</{one[0].lower()}>",
            1 + max((part[1] for part in one[2]), default=0),
            max([len(one[1]), *(part[2] for part in one[2])]),
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_depth_and_attributes_of_well_formed_markup(tree: tuple[str, int, int]) -> None:
    """A page would be stopped, or let through, by what stands in its scripts, comments and attributes."""
    markup, depth, attributes = tree
    found = effort(markup.encode())
    assert found.unclosed == depth
    assert found.attributes == max(attributes, int("<img" in markup))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["<", ">", "/", "!", "--", "a", "script", "'", '"', "=", " ", "svg", "?", "\x00"])))
def test_any_bytes_have_an_effort(parts: list[str]) -> None:
    """A page that ends within a tag would make the estimate read behind its end."""
    text = "".join(parts)
    whole = effort(text.encode())
    assert 0 <= whole.unclosed <= text.count("<")
    assert 0 <= whole.attributes <= len(text)
    assert effort((escape(text)).encode()) == (0, 0, 0)


@pytest.mark.parametrize("name", [b'ierungsrechner.html"', b"x-1366", b"x-2407"])
def test_an_unknown_element_hides_nothing(name: bytes) -> None:
    """What lies behind an element of a page's own would pass unseen where its name falls into the slot of `script`."""
    assert effort(b"<" + name + b">" + b"<div>" * 500).unclosed >= 500
