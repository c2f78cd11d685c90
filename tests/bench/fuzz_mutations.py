"""Real pages made bad: what a crawl may hold, and what someone may do to it on purpose.

Each input is a function of (seed, number, pages) alone, so that any of them can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST_BYTES = 6_000_000  # somewhat above what the stage takes
_CHARSETS = (
    "utf-8 utf-16 utf-16-le utf-16-be utf-32 utf-7 gb18030 gbk gb2312 big5 shift_jis euc-jp iso-2022-jp euc-kr "
    "windows-1251 windows-1252 iso-8859-1 iso-8859-2 koi8-r windows-874 x-user-defined hz nonsense"
).split()
_TYPES = ("text/html", "text/html", "text/html", "application/xhtml+xml", "text/plain", "", "; charset", "image/png")
_TAGS = (
    "a abbr address article aside b base blockquote body br button caption center code col colgroup dd details div dl "
    "dt em embed fieldset figcaption figure font footer form frameset h1 h2 h6 head header hr html i iframe img input "
    "li link listing main math menu meta mi mtext annotation-xml annotation nav nobr noscript object ol optgroup "
    "option p param plaintext pre rp rt ruby script section select slot span strong style sub summary sup svg desc "
    "foreignObject table tbody td template textarea tfoot th thead time title tr tt u ul var video wbr xmp x-own "
    "image keygen \u00e9l\u00e9ment"
).split()
_MARKUP = """
< ¦ > ¦ </ ¦ <!-- ¦ --> ¦ --!> ¦ <!--> ¦ <![CDATA[ ¦ ]]> ¦ <!DOCTYPE html [<!ENTITY a 'aaaa'>]> ¦ <?xml
<plaintext> ¦ <svg> ¦ <math> ¦ </math> ¦ <math><annotation-xml encoding='text/html'> ¦ <mtext><table>
<svg><foreignObject> ¦ <svg><tr><td> ¦ <math><tr><td> ¦ <script> ¦ </script> ¦ <script><!--<script>
<style> ¦ <textarea> ¦ <title> ¦ <xmp> ¦ <noscript> ¦ <template> ¦ <select><option> ¦ <frameset> ¦ <iframe>
<table> ¦ <table><tr><td colspan=1000000000> ¦ <td rowspan=99999999999> ¦ <td colspan=-1>
<ol start=999999999><li value=2147483648> ¦ <ol start=-5> ¦ <li value='99999999999999999999'>
<pre><code class='language-'> ¦ <code>`````````` ¦ <blockquote> ¦ <a><a> ¦ <b><i></b></i> ¦ </p> ¦ </br>
<p id='abCd abCd abCd abCd abCd abCd abCd abCd'> ¦ <form><form> ¦ <html class=x> ¦ <body onload=y> ¦ &#0;
&#x110000; ¦ &#xD800; ¦ &#128; ¦ &nbsp ¦ &nbsp; ¦ &notit; ¦ &amp;#x41; ¦ &ThisIsNoEntity;
<meta charset=utf-16> ¦ <meta charset='gb18030'>
<meta http-equiv=content-type content='text/html; charset=hz'> ¦ <base href='http://[half'>
<link rel=canonical href='http://[::1'> ¦ <time datetime='9999-99-99T99:99'> ¦ <time pubdate datetime=''>
<script type='math/tex'> ¦ <script type=math/tex></script> ¦ <script type='math/tex'>% <![CDATA[
<span class='MathJax'> ¦ <span class='katex-html'> ¦ <img class=latex alt=' '> ¦ <p => ¦ <p ='>'>
<p a="<"> ¦ <p/a/b=c> ¦ <a"b> ¦ <a<b> ¦ <p style='display:none'> ¦ <p hidden> ¦ <div aria-hidden=true> ¦ |
$ ¦ ~~ ¦ **
"""
"""Pieces of markup, parted by bars."""
_SNIPPETS: tuple[bytes, ...] = tuple(
    text.encode()
    for text in (
        *(piece for line in _MARKUP.strip().splitlines() for piece in line.split(" ¦ ")),
        *("\u3000", "\u00a0", "\u200b", "\ufeff", "\ufffe", "\U0001f600", "\u202e", "\r", "\x0c", "\x1b$B", "\x85"),
        *("&" * 40, "&#" + "9" * 5000 + ";", "&amp;#" + "9" * 5000 + ";", "\\(", "<base href='//\\'>", "<pre>\n\n"),
        *("<\u00e9>", "<p \u00a0=x>", "<img class=tex alt='\\frac'>"),
        "<meta property='og:title' content='&amp;#" + "1" * 5000 + ";'>",
        "<script type='application/ld+json'>{\"datePublished\": " + "[" * 2000,
    )
)


class Input(NamedTuple):
    """A page as the pipeline would get it."""

    payload: bytes
    content_type: str
    made_by: str
    """The mutations that made it, in order."""


def make(seed: int, number: int, pages: Sequence[bytes]) -> Input:
    """Input `number` of a run with this seed: one to four mutations of one of the pages."""
    rng = random.Random(f"{seed}:{number}")
    page = rng.choice(pages)
    content_type = "text/html"
    names = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
        mutate = rng.choice(_MUTATIONS)
        names.append(mutate.__name__.strip("_"))
        if mutate is _charset:
            page, content_type = _charset_swapped(rng, page)
        else:
            page = mutate(rng, page, pages)[:MOST_BYTES]
    return Input(page, content_type, " ".join(names))


def _size(rng: random.Random, most: int) -> int:
    """From 1 to `most`, small ones as likely as large ones."""
    return min(most, int(2 ** rng.uniform(0, max(most, 1).bit_length())))


def _place(rng: random.Random, page: bytes) -> int:
    """Anywhere, or at a tag: half of a page are scripts."""
    at = rng.randint(0, len(page))
    return max(page.find(b"<", at), 0) + rng.choice((0, 0, 1, 2)) if rng.random() < 0.6 else at


def _span(rng: random.Random, page: bytes, most: int = 100_000) -> tuple[int, int]:
    start = _place(rng, page)
    return start, start + _size(rng, most)


def _put(page: bytes, at: int, more: bytes) -> bytes:
    return page[:at] + more + page[at:]


def _flips(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    if not page:
        return page
    made = bytearray(page)
    for _ in range(_size(rng, 500)):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _random_bytes(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    start, end = _span(rng, page, 2_000)
    return page[:start] + rng.randbytes(_size(rng, 2_000)) + page[end:]


def _delete(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    for _ in range(_size(rng, 50)):
        start, end = _span(rng, page, 5_000)
        page = page[:start] + page[end:]
    return page


def _duplicate(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    start, end = _span(rng, page, 20_000)
    part = page[start:end]
    return _put(page, end, part * min(_size(rng, 500), max(1_000_000 // max(len(part), 1), 1)))


def _splice(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    other = rng.choice(pages)
    for _ in range(_size(rng, 10)):
        start, end = _span(rng, other)
        page = _put(page, _place(rng, page), other[start:end])
    return page


def _swap(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    cuts = sorted(_place(rng, page) for _ in range(_size(rng, 60)))
    parts = [page[start:end] for start, end in zip([0, *cuts], [*cuts, len(page)], strict=True)]
    rng.shuffle(parts)
    return b"".join(parts)


def _truncate(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    at = _place(rng, page)
    return page[:at] if rng.random() < 0.8 else page[at:]


def _concatenate(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    return page + rng.choice(pages)


def _repeat_tag(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    tags = [f"<{'/' if rng.random() < 0.15 else ''}{rng.choice(_TAGS)}>" for _ in range(rng.choice((1, 1, 2, 3, 5)))]
    if rng.random() < 0.3:
        start = max(page.find(b"<", rng.randint(0, len(page))), 0)
        unit = page[start : page.find(b">", start) + 1][:2_000]
    else:
        unit = rng.choice(("", "x", " word, ", "\n")).join(tags).encode()
    return _put(page, _place(rng, page), unit * min(_size(rng, 30_000), 3_000_000 // max(len(unit), 1)))


def _wrap(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    """Some thousand levels around a part of the page."""
    tag = rng.choice(_TAGS)
    levels = _size(rng, 5_000)
    start, end = _span(rng, page)
    inner = f"<{tag}>".encode() * levels + page[start:end] + f"</{tag}>".encode() * levels
    return page[:start] + inner + page[end:]


def _blow_up_attribute(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    at = page.find(b"<", rng.randint(0, len(page)))
    end = page.find(b">", at)
    if at < 0 or end < 0:
        return page
    if rng.random() < 0.5:
        name = rng.choice(("class", "id", "href", "style", "alt", "content", "datetime", "x", "colspan", "itemprop"))
        value = rng.choice(("x", "ab ", "abCd ", "aB-c_d ", "é", "&amp;", "&", "<p>", "9")) * _size(rng, 1_000_000)
        return _put(page, end, f' {name}="{value}"'.encode()[:2_000_000])
    return _put(page, end, "".join(f" a{number}=x" for number in range(_size(rng, 20_000))).encode())


def _nuls(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    for _ in range(_size(rng, 200)):
        page = _put(page, _place(rng, page), b"\0" * _size(rng, 8))
    return page


def _broken_utf8(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    for _ in range(_size(rng, 100)):
        bad = rng.choice(
            (b"\xff", b"\xc0\x80", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80")
        )
        page = _put(page, _place(rng, page), bad)
    return page


def _snippets(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    for _ in range(_size(rng, 100)):
        page = _put(page, _place(rng, page), rng.choice(_SNIPPETS))
    return page


def _snippet_repeated(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    unit = b"".join(rng.choice(_SNIPPETS) for _ in range(rng.choice((1, 1, 2, 4))))
    many = unit * min(_size(rng, 20_000), 1_000_000 // len(unit))
    return many if rng.random() < 0.3 else _put(page, _place(rng, page), many)  # alone, nothing else makes room for it


def _no_end_tags(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    if rng.random() < 0.2:
        return page.replace(b"</", rng.choice((b"<", b"")))
    return page.replace(f"</{rng.choice(_TAGS)}>".encode(), b"")


def _replace_byte(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    """One character of the markup becomes another, all over the page."""
    old, new = rng.sample((b">", b'"', b"'", b"=", b" ", b"<", b"/", b"-", b"&", b";", b"\n", b"!", b"\0", b"e"), 2)
    return page.replace(old, new, _size(rng, 5_000))


def _charset(rng: random.Random, page: bytes, pages: Sequence[bytes]) -> bytes:
    raise NotImplementedError("made by _charset_swapped, which knows the header as well")


def _charset_swapped(rng: random.Random, page: bytes) -> tuple[bytes, str]:
    """The page in another charset, and a header that says a third."""
    if rng.random() < 0.7:
        codec = rng.choice(("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "shift_jis", "cp1252"))
        page = page.decode("utf-8", "replace").encode(codec, "ignore")
    return page, rng.choice((rng.choice(_TYPES), f"text/html; charset={rng.choice(_CHARSETS)}"))


_MUTATIONS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flips, _random_bytes, _delete, _duplicate, _splice, _swap, _truncate, _concatenate, _repeat_tag, _wrap,
    _blow_up_attribute, _nuls, _broken_utf8, _snippets, _snippet_repeated, _no_end_tags, _replace_byte, _charset,
)  # fmt: skip
