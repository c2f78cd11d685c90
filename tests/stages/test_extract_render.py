"""What the blocks engine writes for the blocks that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.extract.render import render
from stages.extract.scan import TEXT, canonical, scan


def written(html: str, markdown: bool = True, keep: list[bool] | None = None) -> str:
    """The page with all its blocks, or those that `keep` names."""
    events = scan(canonical(html))
    flags = np.ones(events.blocks, np.bool_) if keep is None else np.array(keep, np.bool_)
    return render(events, flags, markdown).decode()


@pytest.mark.parametrize(
    ("html", "text", "markdown"),
    [
        ("<h2>A<br>b</h2><p>c\n d<br>e</p><div>f</div>g", "A b\n\nc d\ne\n\nf\ng", "## A b\n\nc d\ne\n\nf\n\ng"),
        ("<p>a<b>b</b>c <i> d </i>e", "abc d e", "a**b**c *d* e"),
        ("<p><b>a</b><b>b</b> <b>c<p>d</b>", "ab c\n\nd", "**ab** **c**\n\n**d**"),
        ("<p>10<sup>6</sup> m<sup>2</sup> 1<sup>st</sup> H<sub>2</sub>O", "10^6 m2 1st H2O", "10^6 m2 1st H2O"),
        ("<p>x &lt;b&gt; &amp;amp;&nbsp; y<!-- c -->z", "x <b> &amp; yz", "x <b> &amp; yz"),
        ("<p>中文\n字<b>粗</b>\n体 <ruby>漢<rp>(</rp><rt>かん</rt></ruby>字", "中文字粗体 漢字", "中文字**粗**体 漢字"),
        ("<p>a<p>b<br><br>c<hr>d", "a\n\nb\n\nc\n\nd", "a\n\nb\n\nc\n\nd"),
        ("a<p> </p><div>&nbsp;</div>b", "a\n\nb", "a\n\nb"),
        ("a<img src=x>b 中<svg><title>t</title></svg>文<select><option>o</select>c", "a b 中文 c", "a b 中文 c"),
        ("<p>a<template><p>x</p></template>b<script>c</script>d", "abd", "abd"),
        ("<dl><dt>T<dd><p>d</p><dd>e</dl>", "T\nd\n\ne", "T\n: d\n\ne"),
        ("<p>a <code>b ` c</code> <code><i>d</i></code>", "a b ` c d", "a `` b ` c `` `d`"),
    ],
)
def test_paragraphs_and_inline(html: str, text: str, markdown: str) -> None:
    """Else words run together, split in two, or paragraphs become one line."""
    assert written(html, False) == text
    assert written(html) == markdown


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e", "- a\n- b\n  - c\n- d\n\ne"),
        ("<ol start=9><li>a<li>b<ol><li>c</ol><li value=20>d</ol>", "9. a\n10. b\n    1. c\n20. d"),
        ("<ul><li><p>a<p>b</li><li><p>c</ul>", "- a\n\n  b\n\n- c"),
        ("<ul><li><div>a</div></li> <li><a>b</a></li></ul>", "- a\n- b"),
        ("<ul><li><h3>a</h3>b<li>c</ul>", "### a\n\nb\n\n- c"),
        ("<ul><li><ul><li>a</ul></ul>", "- a"),
        ("<ol><li>a<pre>  b\n c</pre><li>d</ol>", "1. a\n\n```\n  b\n c\n```\n\n2. d"),
        ("<blockquote>a<p>b<ul><li>c<blockquote>d</ul></blockquote>e", "> a\n>\n> b\n>\n> - c\n>\n>   > d\n\ne"),
        ("<blockquote>a</blockquote><blockquote>b</blockquote>", "> a\n\n> b"),
        ("<blockquote class='postcontent restore'>a</blockquote>", "a"),
    ],
)
def test_lists_and_quotations(html: str, markdown: str) -> None:
    """Else items lose their nesting or their numbers, and a renderer shows another page."""
    assert written(html) == markdown


def test_items_that_are_left_out_leave_no_marker() -> None:
    """Else dropped menu entries leave empty bullets, and the numbers of the rest are wrong."""
    html = "<p>x</p><ol><li>a<li>b<li>c</ol><p>y</p>"
    assert written(html, keep=[True, False, True, False, True]) == "x\n\n2. b\n\ny"
    assert written(html, keep=[False] * 5) == ""
    with pytest.raises(ValueError, match="3 flags for 5 blocks"):
        written(html, keep=[True] * 3)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<pre>\n\n  a &lt; b\n\tc  \n\n</pre>", "```\n  a < b\n\tc\n```"),
        ("<pre class='x language-c++'>a</pre>", "```c++\na\n```"),
        ("<pre><code class='lang-js'>a</code></pre>", "```js\na\n```"),
        ("<div class='highlight highlight-source-python'><pre>a</pre></div>", "```python\na\n```"),
        ("<pre class='brush: java; gutter: true'>a</pre>", "```java\na\n```"),
        ("<pre>a\n```\nb</pre>", "````\na\n```\nb\n````"),
        ("<pre><div>a</div><div>  b</div><div>c\n</div><div>d</div></pre>", "```\na\n  b\nc\nd\n```"),
        ("<pre>a<br>b<br><br>c&nbsp; d</pre>", "```\na\nb\n\nc  d\n```"),
        ("<p><code>x<pre> y</pre></code></p>", "`x`\n\n```\n y\n```"),
        ("<pre> \n </pre>", ""),
    ],
)
def test_code_stands_as_it_is_written(html: str, text: str) -> None:
    """Else code loses its indentation or lines, or its language, or ends at a fence of its own."""
    assert written(html) == text


@pytest.mark.parametrize(
    ("html", "text", "markdown"),
    [
        (
            "<table><caption>t<tr><th>a<th>b|c<tr><td>1<td><p>2</p><p>3</p></table>",
            "t\n\na | b|c\n1 | 2 3",
            "t\n\n| a | b\\|c |\n| --- | --- |\n| 1 | 2 3 |",
        ),
        (
            "<table><tr><th>a<th colspan=2>b<tr><td rowspan=2>1<td>2<td>3<tr><td>4<td>5</table>",
            "a | b\n1 | 2 | 3\n4 | 5",
            "| a | b |  |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n|  | 4 | 5 |",
        ),
        (
            "<table><tr><td><h4>a</h4><td><h4>b</h4><tr><td>1<td>2</table>",
            "a | b\n1 | 2",
            "| a | b |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            f"<table><tr><td><h4>a</h4><td>b<tr><td>{'x' * 201}<td>c</table>",
            f"a\n\nb\n{'x' * 201}\nc",
            f"#### a\n\nb\n\n{'x' * 201}\n\nc",
        ),
        ("<table><tr><td>a<td>b</table>", "a\nb", "a\n\nb"),
        ("<table role=presentation><tr><td>a<td>b<tr><td>c<td>d</table>", "a\nb\nc\nd", "a\n\nb\n\nc\n\nd"),
        ("<table><tr><td>a<td><pre>b</pre><tr><td>c<td>d</table>", "a\n\nb\n\nc\nd", "a\n\n```\nb\n```\n\nc\n\nd"),
        (
            "<table><tr><td><table><tr><td>a<td>b<tr><td>c<td>d</table><tr><td>e</table>",
            "a | b\nc | d\n\ne",
            "| a | b |\n| --- | --- |\n| c | d |\n\ne",
        ),
    ],
)
def test_tables(html: str, text: str, markdown: str) -> None:
    """Else cells move to other columns, or the layout of a page becomes a table of prose."""
    assert written(html, False) == text
    assert written(html) == markdown


def test_rows_and_cells_that_are_left_out() -> None:
    """Else a table with a dropped cell shifts its row, and a dropped row stands there empty."""
    html = "<table><tr><th>a<th>b<tr><td>c<td>d<tr><td>e<td>f</table>"
    keep = [True, True, False, False, False, True]
    assert written(html, keep=keep) == "| a | b |\n| --- | --- |\n|  | f |"
    assert written(html, False, keep=keep) == "a | b\nf"


_TEX = "<annotation encoding='application/x-tex'>x&lt;{{y}}</annotation>"
_ANNOTATED = "<math{}><semantics><mi>x</mi>" + _TEX + "</semantics></math>"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a " + _ANNOTATED.format("") + " b", "a $x<{y}$ b"),
        ("a " + _ANNOTATED.format(" display=block") + " b", "a\n$$x<{y}$$\nb"),
        (
            "<span class=katex><span class=katex-mathml>"
            + _ANNOTATED.format("")
            + "</span><span class=katex-html>x&lt;y</span></span>, b",
            "$x<{y}$, b",
        ),
        (
            "<span class=mwe-math-element><span>"
            + _ANNOTATED.format("")
            + "</span><img class='mwe-math-fallback-image-inline' alt='x'></span>",
            "$x<{y}$",
        ),
        ("a <img class='mwe-math-fallback-image-inline' alt='{\\displaystyle x}'> b", "a ${\\displaystyle x}$ b"),
        ("a <img class=latex alt='\\alpha'>", "a $\\alpha$"),
        ("a <img src='https://latex.codecogs.com/gif.latex?x' alt='x'>", "a $x$"),
        ("a <img src=photo.png alt='a photo \\'>", "a"),
        (
            "a <span class=MathJax_Preview>p</span><span class=MathJax><nobr>x</nobr></span>"
            "<script type='math/tex'>x<y</script> b",
            "a $x<y$ b",
        ),
        (
            "<div class=MathJax_Display><span class=MathJax>x</span></div>"
            "<script type='math/tex; mode=display'>% <![CDATA[\nx&y %]]></script>",
            "$$x&y$$",
        ),
        (
            "a <span class=MathJax>x2<span class=MJX_Assistive_MathML>" + _ANNOTATED.format("") + "</span></span> b",
            "a $x<{y}$ b",
        ),
        ("<div class='mathjax_process'>a " + _ANNOTATED.format("") + " b</div>", "a $x<{y}$ b"),
        ("<math alttext='x^{2}'><mi>x</mi></math> <math alttext='x squared'><mi>x</mi><mn>2</mn></math>", "$x^{2}$ x2"),
        (
            "<math><semantics><mi>x</mi><annotation encoding='StarMath 5.0'>12 x</annotation></semantics></math>",
            "x",
        ),
    ],
)
def test_formulas_stand_once_and_as_tex(html: str, text: str) -> None:
    """Else formulas are lost, stand there twice, or are a row of letters."""
    assert written(f"<p>{html}</p>") == text
    assert written(f"<p>{html}</p>", False) == text


def test_formulas_of_dropped_blocks_are_dropped() -> None:
    """Else formulas of a sidebar turn up in the text."""
    html = "<p>a {0}</p><p>b {0}</p><p><img class=latex alt='z'></p>".format(_ANNOTATED.format(""))
    assert written(html, keep=[False, False]) == ""
    assert written(html, keep=[True, False]) == "a $x<{y}$"
    assert written(html, keep=[False, True]) == "b $x<{y}$\n\n$z$"


def test_depth_and_breadth_do_not_matter() -> None:
    """Else a page made to break the writer ends the run, or fills the memory."""
    deep = written("<ul><li>" * 150 + "x" + "<ol><li>y<blockquote>" * 150)
    assert deep.startswith("- x\n")
    assert deep.count("y") == 150
    assert max(map(len, deep.split("\n"))) < 100
    assert written("<b><i>" * 100 + "x") == "***x***"
    assert written("<code>" + "`" * 50_000 + "<br>x" * 100).count("`") == 50_000
    wide = written("<table>" + "<tr><td colspan=1000 rowspan=9999>a<td>b" * 50 + "</table>")
    assert wide.count("b") == 50
    assert len(written("<table><tr>" + "<td>a" * 5_000 + "<tr><td>b</table>")) < 50_000


_TEXTS = st.sampled_from(["a", "b ", " c", "\n", "d e", "中", "\n文", "&lt;", "&nbsp;", "7", "`", "|", "é", "<!--x-->"])
_TAGS = st.sampled_from(
    "p div span b i code a h1 h3 ul ol li blockquote pre table tr td th dl dt dd sup section x-y ruby rt math".split()
)
_PAGES = st.recursive(
    _TEXTS | st.sampled_from(["<br>", "<hr>", "<img class=latex alt=q>"]),
    lambda inner: st.builds(lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", _TAGS, st.lists(inner, max_size=5)),
    max_leaves=40,
)
_RUNS = str.maketrans("", "", " \n\r\t\xa0`|*>#-:.^$\\0123456789q")


@settings(max_examples=300, deadline=None)
@given(st.lists(_PAGES, max_size=4), st.data())
def test_every_kept_character_stands_once_in_order(parts: list[str], data: st.DataObject) -> None:
    """Else extraction loses or doubles text in some nesting of elements that nobody has thought of."""
    events = scan(canonical("".join(parts).replace("<rt>", "<u>").replace("</rt>", "</u>")))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=events.blocks, max_size=events.blocks)), np.bool_)
    shown = ""
    for kind, start, end, block in zip(events.kind, events.start, events.end, events.block, strict=True):
        if kind == TEXT and block >= 0 and keep[block]:
            shown += events.html[start:end].tobytes().decode()
    shown = shown.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for markdown in (False, True):
        text = render(events, keep, markdown).decode()
        assert text.translate(_RUNS) == shown.translate(_RUNS)
        assert text == text.strip("\n")
        assert "\n\n\n" not in text or "<pre>" in "".join(parts)
