"""HTML to text: no page may crash a run, and none may go without a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import trafilatura
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_helpers import batch, bound, pages, reasons, texts

from stages.decode import decode
from stages.extract import Extract
from stages.registry import make

BODY = "<p>" + "The quick brown fox jumps over the lazy dog and this is a sentence. " * 5 + "</p>"
CHINESE = "<p>" + "今天在北京举行了盛大的庆祝活动，市民们纷纷走上街头。" * 8 + "</p>"


def html(body: str, head: str = "") -> str:
    return f"<html><head>{head}</head><body>{body}</body></html>"


def test_text_and_title_come_out_and_the_payload_goes() -> None:
    """Documents would have no text or title, or carry their HTML through the run."""
    page = html(f"<nav>Home | About</nav><article>{BODY}</article>", "<title>A  fox\n here</title>")
    outcome = bound(Extract())(pages([page.encode()]))
    assert outcome.batch.column("title").to_pylist() == ["A fox here"]
    assert texts(outcome)[0].startswith("The quick brown fox")
    assert not {"payload", "content_type"} & set(outcome.batch.schema.names)


def test_rows_that_are_text_already_pass_untouched() -> None:
    """Books and WET records beside HTML would be lost or altered."""
    outcome = bound(Extract())(batch(["a <b> c", None], title=["T", None]))
    assert texts(outcome) == ["a <b> c"]
    assert outcome.batch.column("title").to_pylist() == ["T"]
    assert reasons(outcome) == [(1, "no_text")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no_text"),
        (b"<html><body></body></html>", "no_text"),
        (b"<html><body>" + b"<div>" * 100_000 + BODY.encode(), "too_deep"),
        (b"<html><body>" + b"<p>a</p>" * 80_000, "too_many_nodes"),
        (b"<html>" + b"x" * 5_000_000, "too_large"),
        (b"<html><body><p " + b" ".join(b"a%d='x'" % number for number in range(300_000)), "too_many_attributes"),
        (b"%PDF-1.7 something", "not_text"),
        (b"<html>" + b"\0\1\2\3" * 500, "not_text"),
        (bytes(range(128, 256)) * 50, "undecodable_bytes"),
    ],
)
def test_pages_without_text_are_dropped_with_their_reason(payload: bytes, reason: str) -> None:
    """A hostile page would end the run or vanish uncounted."""
    outcome = bound(Extract())(pages([payload, html(BODY).encode()]))
    assert reasons(outcome) == [(0, reason)]
    assert len(texts(outcome)) == 1
    if reason in ("too_deep", "too_many_nodes", "too_large", "undecodable_bytes"):
        _, _, value, limit = outcome.dropped[0]
        assert value is not None
        assert limit is not None
        assert value > limit


@pytest.mark.parametrize(
    "payload",
    [
        b"<html><body><img alt='" + b"x" * 4_000_000 + b"'>" + BODY.encode(),
        html("<b>" * 150 + BODY).encode(),
        html(BODY + "\0\0").encode(),
        html(BODY).encode("utf-16"),
        html(BODY).encode("utf-16-le"),
        html(BODY).encode("utf-8-sig"),
        b"<?xml version='1.0' encoding='utf-8'?>" + html(BODY).encode(),
    ],
    ids=["huge attribute", "deep", "NULs", "UTF-16", "UTF-16 without mark", "UTF-8 with mark", "XHTML"],
)
def test_odd_pages_give_their_text(payload: bytes) -> None:
    """Readable pages would be lost to their packaging."""
    outcome = bound(Extract())(pages([payload]))
    assert "quick brown fox" in texts(outcome)[0]


@pytest.mark.parametrize("charset", ["gb18030", "utf-8"])
@pytest.mark.parametrize("header", ["utf-8", "iso-8859-1", "gbk", "nonsense", None])
def test_a_lying_charset_is_seen_through(charset: str, header: str | None) -> None:
    """Chinese pages whose server names the wrong charset would become mojibake."""
    content_type = f"text/html; charset={header}" if header else "text/html"
    outcome = bound(Extract())(pages([html(CHINESE).encode(charset)], content_type))
    assert texts(outcome)[0].startswith("今天在北京举行了")
    lies = {"gb18030": {"utf-8", "iso-8859-1"}, "utf-8": {"iso-8859-1", "gbk"}}[charset]
    assert outcome.counts.get("charset_corrected", 0) == (header in lies)


@pytest.mark.parametrize(
    ("text", "charset", "header"),
    [
        ("Ça va bien, l’été à la plage…", "cp1252", "iso-8859-1"),
        ("Привет мир, это простой русский текст про погоду и людей. " * 5, "cp1251", "iso-8859-1"),
        ("これは日本語の文章です。今日は天気がいいですね。" * 5, "shift_jis", "utf-8"),
        ("これは日本語の文章です。今日は天気がいいですね。" * 5, "euc_jp", ""),
        ("안녕하세요 오늘은 날씨가 참 좋네요. 산책을 갑시다. " * 5, "euc_kr", "utf-8"),
    ],
)
def test_charsets_of_the_world(text: str, charset: str, header: str) -> None:
    """Pages of older sites would come out as mojibake."""
    assert decode(text.encode(charset), f"text/html; charset={header}").text == text


def test_a_page_names_its_charset_itself() -> None:
    """A `meta` element would be ignored where the server says nothing, or only its default."""
    page = html("<p>Zażółć gęślą jaźń</p>", "<meta charset='iso-8859-2'>").encode("iso-8859-2")
    assert "Zażółć gęślą jaźń" in decode(page, "text/html").text
    assert "Zażółć gęślą jaźń" in decode(page, "text/html; charset=ISO-8859-1").text


def test_few_broken_bytes_cost_only_themselves() -> None:
    """One broken byte would turn a whole UTF-8 page into mojibake, and go uncounted."""
    payload = html(CHINESE).encode()
    broken = payload[:100] + b"\xff" + payload[100:]
    outcome = bound(Extract())(pages([broken], "text/html; charset=utf-8"))
    assert "市民们纷纷走上街头" in texts(outcome)[0]
    assert outcome.counts["replaced_characters"] >= 1
    assert texts(bound(Extract())(pages([payload[: payload.rindex("头".encode()) + 1]])))[0].startswith("今天")


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from(["", "utf-16", "gbk", "hz", "x-user-defined", "iso-2022-jp", "utf-7", "é"])
)
def test_any_bytes_decode_to_text_that_arrow_holds(payload: bytes, label: str) -> None:
    """A page could crash the decoder, or give a string that no column can hold."""
    decoded = decode(payload, f"text/html; charset={label}")
    assert decoded.text.encode().decode() == decoded.text
    assert 0 <= decoded.replaced <= len(decoded.text)


def test_a_missing_package_is_never_a_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation would drop every page and report success (seen in datatrove)."""
    for error in (ImportError("no lxml_html_clean"), MemoryError()):

        def fail(*args: object, _error: Exception = error, **kwargs: object) -> str:
            raise _error

        monkeypatch.setattr(trafilatura, "extract", fail)
        with pytest.raises(type(error)):
            bound(Extract(engine="trafilatura"))(pages([html(BODY).encode()]))


def test_an_extractor_that_fails_drops_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One page that breaks the extractor would end the run."""

    def fail(*args: object, **kwargs: object) -> str:
        raise RecursionError

    monkeypatch.setattr(trafilatura, "extract", fail)
    assert reasons(bound(Extract(engine="trafilatura"))(pages([html(BODY).encode()]))) == [(0, "extractor_failed")]


def test_modes_and_formats_reach_the_extractor() -> None:
    """Settings of a recipe would do nothing."""
    table = "<table><tr><td>cell one</td><td>cell two</td></tr><tr><td>cell three</td><td>cell four</td></tr></table>"
    page = html(f"<article>{BODY}<h2>Heading of a section</h2>{BODY}{table}{BODY}</article>").encode()
    markdown = texts(bound(Extract(format="markdown"))(pages([page])))[0]
    assert "\n\n## Heading of a section\n\n" in markdown
    assert "| cell one | cell two |" in markdown
    assert "cell one" not in texts(bound(Extract(engine="trafilatura", tables=False))(pages([page])))[0]
    for mode in ("fast", "precision", "recall"):
        assert "quick brown fox" in texts(bound(Extract(engine="trafilatura", mode=mode))(pages([page])))[0]


def test_resiliparse_is_an_engine() -> None:
    """A recipe that asks for the fast extractor would get another, or its settings would do nothing."""
    rows = "<table><tr><td>cell one</td><td>cell two</td></tr></table><img alt='a picture' src='x'>"
    page = html(f"<nav><a href='/'>Home</a></nav><article><h1>Heading</h1>{BODY}{rows}</article>", "<title>T</title>")
    page += "<div class='comments'><p>Well said, and I could not agree more with this.</p></div>"

    def run(**asked: object) -> str:
        return texts(make(Extract, {"engine": "resiliparse", **asked}).process(pages([page.encode()])))[0]

    assert "quick brown fox" in run()
    assert "Heading" in run()
    assert "Home" not in run()
    assert "a picture" not in run()
    assert "a picture" in run(alt_texts=True)
    assert "cell one" in run()
    assert "cell one" not in run(tables=False)
    assert "Well said" in run()
    assert "Well said" not in run(comments=False)
    outcome = bound(Extract(engine="resiliparse"))(pages([html(CHINESE, "<title>T</title>").encode()]))
    assert texts(outcome) == [CHINESE.removeprefix("<p>").removesuffix("</p>")]
    assert outcome.batch.column("title").to_pylist() == ["T"]


@pytest.mark.parametrize("engine", ["blocks", "trafilatura", "resiliparse"])
def test_too_deep_a_page_is_dropped_by_every_engine(engine: str) -> None:
    """One page would take minutes, or end the worker."""
    deep = html("<div>" * 5000 + BODY).encode()
    outcome = bound(make(Extract, {"engine": engine}))(pages([deep, html("<div>" * 20 + BODY).encode()]))
    ((row, reason, depth, limit),) = outcome.dropped
    assert (row, reason, limit) == (0, "too_deep", {"blocks": 1000, "trafilatura": 200, "resiliparse": 100}[engine])
    assert depth is not None
    assert depth > limit
    assert "quick brown fox" in texts(outcome)[0]


def test_a_deep_page_gives_all_its_text() -> None:
    """Pages of old table layouts and of editors that nest whatever is pasted would be lost, or cut off."""
    levels = "".join(
        f"<div><p>Level {number} of this page has a sentence of its own, and that is all.</p>" for number in range(900)
    )
    deep = html("<article>" + levels + BODY).encode()
    (text,) = texts(bound(Extract())(pages([deep])))
    assert all(f"Level {number} of" in text for number in range(900))
    assert "quick brown fox" in text
    assert reasons(bound(Extract(max_depth=500))(pages([deep]))) == [(0, "too_deep")]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"engine": "resiliparse", "mode": "precision"},
            "mode: 'precision' has no meaning for the engine 'resiliparse'",
        ),
        ({"engine": "resiliparse", "format": "markdown"}, "format: 'markdown' has no meaning .* take engine: .*trafil"),
        ({"mode": "fast"}, "mode: 'fast' has no meaning for the engine 'blocks'"),
        ({"engine": "trafilatura", "min_score": 0.5}, "min_score: 0.5 has no meaning .* take engine: blocks"),
        ({"engine": "trafilatura", "alt_texts": True}, "alt_texts: True has no meaning .* take engine: resiliparse"),
        ({"engine": "trafilatur"}, "engine"),
        (
            {"engine": "resiliparse", "max_depth": 300},
            "max_depth: the engine 'resiliparse' bears at most 256",
        ),
    ],
)
def test_settings_that_an_engine_does_not_have_are_refused(asked: dict[str, object], says: str) -> None:
    """A run would go on for hours with a setting that does nothing."""
    with pytest.raises(ValidationError, match=says):
        make(Extract, asked)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The extractor's own complaints would cover the run's progress."""
    bound(Extract())(pages([b"<html></html>", b"x", html(BODY).encode()]))
    assert capfd.readouterr() == ("", "")
