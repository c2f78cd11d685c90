"""What becomes of HTTP bodies: codings stacked, lying or broken off, and types told by content, not by header."""

from __future__ import annotations

import gzip
import random
import zlib
from collections import Counter

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.readers.http import page
from stages.schema import DOCUMENT_BYTES

_words = random.Random(7)
PARAGRAPHS = b"".join(
    b"<p>%d: %s</p>\n" % (n, " ".join(_words.choices("ein Wort über 中文 the words of a page".split(), k=30)).encode())
    for n in range(400)
)
BODY = b"<!DOCTYPE html><html><head><title>T</title></head><body>" + PARAGRAPHS + b"</body></html>"


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


PACK = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress,
    "zstd": zstandard.compress,
}  # fmt: skip


BODIES = [BODY, *(pack(BODY) for pack in PACK.values())]


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = (body[i : i + size] for i in range(0, len(body), size))
    return b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


def response(body: bytes, *lines: str, media: str | None = "text/html") -> bytes:
    head = ["HTTP/1.1 200 OK", *([f"Content-Type: {media}"] if media is not None else []), *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("first", PACK)
@pytest.mark.parametrize("second", PACK)
@pytest.mark.parametrize("form", ["one line", "two lines", "chunked"])
def test_stacked_codings(first: str, second: str, form: str) -> None:
    """A page packed twice, as proxies do, would be lost as binary."""
    body = PACK[second](PACK[first](BODY))
    lines = [f"Content-Encoding: {first}, {second}"]
    if form == "two lines":
        lines = [f"Content-Encoding: {first}", f"content-encoding: {second}"]
    if form == "chunked":
        body, lines = chunked(body), [*lines, "Transfer-Encoding: chunked"]
    counts: Counter[str] = Counter()
    assert page(response(body, *lines), counts).body == BODY
    assert not counts


@pytest.mark.parametrize("coding", [*PACK, "raw deflate"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_body_that_breaks_off_keeps_what_was_decoded(coding: str, share: float) -> None:
    """Every page over a crawler's size limit would be lost whole."""
    packed = raw_deflate(BODY) if coding == "raw deflate" else PACK[coding](BODY)
    counts: Counter[str] = Counter()
    found = page(response(packed[: int(len(packed) * share)], f"Content-Encoding: {coding.split()[-1]}"), counts)
    if coding == "zstd" and found.body is None:  # all of it is one block, which comes whole or not at all
        assert found.reason == "bad_encoding"
        return
    assert found.body
    assert BODY.startswith(found.body)
    assert len(found.body) > len(BODY) * share * 0.5
    assert counts == {"body_cut_short": 1}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_damaged_body_keeps_what_comes_before(coding: str) -> None:
    """One flipped bit in a long page would cost all of it."""
    packed = bytearray(PACK[coding](BODY))
    middle = len(packed) // 2
    packed[middle : middle + 200] = b"\xff" * 200
    counts: Counter[str] = Counter()
    found = page(response(bytes(packed), f"Content-Encoding: {coding}"), counts)
    assert found.body is not None
    assert found.body[:1000] == BODY[:1000]
    assert counts == {"body_damaged": 1}


@pytest.mark.parametrize(
    ("body", "lines", "counted"),
    [
        (BODY, ["Content-Encoding: gzip"], "encoding_lie"),
        (BODY, ["Content-Encoding: br"], "encoding_lie"),
        (BODY, ["Content-Encoding: deflate"], "encoding_lie"),
        (BODY, ["Content-Encoding: zstd"], "encoding_lie"),
        (BODY, ["Content-Encoding: sdch"], "encoding_lie"),
        (gzip.compress(BODY), ["Content-Encoding: deflate"], "encoding_lie"),
        (gzip.compress(BODY), [], "encoding_lie"),
        (BODY, ["Transfer-Encoding: chunked"], "chunked_lie"),
        (BODY, ["Transfer-Encoding: identity"], None),
        (BODY, [f"Content-Length: {len(BODY)}"], None),
        (BODY, [f"Content-Length: {len(BODY) + 5}"], "body_cut_short"),
        (BODY, ["Content-Length: 5"], "http_length_wrong"),
        (BODY, ["Content-Length: many"], None),
        (chunked(BODY), ["Transfer-Encoding: chunked", "Content-Length: 5"], None),
        (chunked(gzip.compress(BODY)), ["Transfer-Encoding: gzip, chunked"], None),
        (chunked(BODY).replace(b"\r\n0\r\nTrailer: x\r\n\r\n", b""), ["Transfer-Encoding: chunked"], "body_cut_short"),
        (gzip.compress(BODY) + b"\0" * 9, ["Content-Encoding: gzip"], None),
        (zstandard.compress(BODY[:50]) + zstandard.compress(BODY[50:]), ["Content-Encoding: zstd"], None),
    ],
)
def test_headers_that_lie(body: bytes, lines: list[str], counted: str | None) -> None:
    """Crawlers store decoded bodies under the server's headers: such pages would be dropped as broken."""
    counts: Counter[str] = Counter()
    assert page(response(body, *lines), counts).body == BODY
    assert counts == ({counted: 1} if counted else {})


PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"
XHTML = (
    b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0"><html xmlns="http://www.w3.org/1999/xhtml"/>'
)
FEED = b'<?xml version="1.0"?><!-- made by x --><rss version="2.0"><channel><title>T</title></channel></rss>'
SHORT = b"<html><body>x</body></html>"


@pytest.mark.parametrize(
    ("media", "body", "reason"),
    [
        ("text/html", SHORT, None),
        ("TEXT/HTML;charset=utf-8", SHORT, None),
        ("text/htmlcharset=utf-8", SHORT, None),
        ("application/xhtml+xml", XHTML, None),
        ("application/xml", XHTML, None),
        ("text/xml", b"\xef\xbb\xbf" + XHTML, None),
        ("text/plain", b"\n <!-- c --> <!DOCTYPE HTML>" + SHORT, None),
        ("application/octet-stream", SHORT, None),
        ("text/plain", SHORT.decode().encode("utf-16"), None),
        ("html", SHORT, None),
        ("", SHORT, None),
        (None, b"some words, then <p>a tag", None),
        ("text/html", b"words without any tag", None),
        ("text/html", b"[[a wiki link]] and words", None),
        ("text/html", b"{{ a template }} and words }", None),
        ("text/html", b"BMW is a car maker", None),
        ("text/html", PDF, "pdf"),
        ("text/html", b"\r\n" + PDF, "pdf"),
        (None, PDF, "pdf"),
        ("text/html", b"\x89PNG\r\n\x1a\n" + bytes(50), "image"),
        ("text/html", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image"),
        ("text/html", b"RIFF\x10\x00\x00\x00WAVEfmt ", "media"),
        ("text/html", b"\x00\x00\x00\x1cftypisom" + bytes(9), "media"),
        ("text/html", b"PK\x03\x04" + bytes(50), "archive"),
        ("application/octet-stream", b"\x00\x01\x02" * 100, "binary"),
        ("text/html", b'{"html": "<p>text</p>"}\n', "json"),
        ("text/html", b'[{"a": 1}, {"b": "<div>"}]', "json"),
        (None, b"[]", "json"),
        ("text/html", FEED, "xml"),
        ("application/xml", FEED, "xml"),
        ("text/xml", b"<unknown/>", "xml"),
        ("text/html", b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url/></urlset>", "xml"),
        ("text/plain", b"User-agent: *\nDisallow: /\n", "plain_text"),
        ("text/plain", b"How to write <p> in HTML", "plain_text"),
        (None, b"words without any tag", "plain_text"),
        ("application/json", SHORT, "not_html"),
        ("image/png", SHORT, "not_html"),
    ],
)
def test_type_by_header_and_content(media: str | None, body: bytes, reason: str | None) -> None:
    """Pages under a wrong type would be lost; PDFs, feeds and API answers would reach extraction."""
    found = page(response(body, media=media), Counter())
    assert found.reason == reason
    assert found.body == (body if reason is None else None)


def test_answers_in_front_of_the_answer() -> None:
    """A page behind `100 Continue` would be dropped for its status."""
    assert page(b"HTTP/1.1 100 Continue\r\n\r\n" + response(SHORT), Counter()).body == SHORT
    assert page(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + response(SHORT), Counter()).body == SHORT
    assert page(b"HTTP/1.1 100 Continue\r\n\r\n", Counter()).reason == "http_status"


@given(st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes_under_any_coding(data: st.DataObject) -> None:
    """One odd body of a hundred million would end the run, or be given without a limit on its size."""
    coding = data.draw(st.sampled_from([*PACK, "deflate, gzip", "identity", "odd"]))
    body = data.draw(st.one_of(st.binary(max_size=200), st.sampled_from(BODIES)))
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        place = data.draw(st.integers(0, len(damaged) - 1))
        stretch = data.draw(st.binary(max_size=6))
        damaged[place : place + len(stretch)] = stretch
    head = data.draw(st.sampled_from([["Transfer-Encoding: chunked"], []]))
    found = page(response(bytes(damaged), f"Content-Encoding: {coding}", *head), Counter())
    assert (found.body is None) == (found.reason is not None)
    assert len(found.body or b"") <= DOCUMENT_BYTES
