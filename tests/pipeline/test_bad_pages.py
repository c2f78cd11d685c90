"""Pages at their worst, through every extractor as a run calls it: text or a drop with its reason, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
import xxhash
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.guard import REASONS, Guard
from pipeline.resources import load
from stages.base import Outcome
from stages.extract import Extract
from stages.extract.effort import MOST_WORK, effort
from stages.registry import make
from stages.schema import READ

ENGINES = ("blocks", "trafilatura", "resiliparse")
CRAWL = Path(__file__).parents[1] / "data" / "crawl"

FOX = "The quick brown fox jumps over the lazy dog and this is a sentence. "
BODY = f"<p>{FOX * 5}</p>"
CHINESE = "今天在北京举行了盛大的庆祝活动，市民们纷纷走上街头。"
JAPANESE = "これは日本語の文章です。今日は天気がいいので、公園を散歩しました。"
LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))


class Bad(NamedTuple):
    """A bad page, and what becomes of it: a text that holds some words, or a drop."""

    payload: bytes
    becomes: str
    reason: str | None = None
    content_type: str = "text/html"


def html(body: str, head: str = "<title>A page</title>") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def _cells(attribute: str) -> str:
    row = f"<tr><td {attribute}>one cell</td><td>another cell</td></tr>"
    return html(f"<article>{BODY}<table>{row * 2}</table>{BODY}</article>")


BAD: dict[str, Bad] = {
    "100,000 levels": Bad(html("<div>" * 100_000 + BODY).encode(), "", "too_deep"),
    "50 MB": Bad(html("<p>words and more words</p>" * 2_000_000).encode(), "", "too_large"),
    "10 MB attribute": Bad(html(f"<p class='{'x' * 10_000_000}'>{BODY}").encode(), "", "too_large"),
    "4 MB attribute": Bad(html(f"<img alt='{'x ' * 2_000_000}'>{BODY}").encode(), FOX),
    "a million empty elements": Bad(html("<i></i>" * 700_000 + BODY).encode(), "", "too_many_nodes"),
    "140,000 empty elements": Bad(html("<i></i>" * 70_000 + BODY * 3).encode(), FOX),
    "comment without an end": Bad(html(f"{BODY}<!-- {BODY}").encode(), FOX),
    "nothing but a comment": Bad(b"<html><body><!-- " + BODY.encode(), "", "no_text"),
    "NULs": Bad(html(f"{BODY}\0\0<p>\0{FOX}</p>").encode(), FOX),
    "nothing but NULs": Bad(b"\0" * 10_000, "", "not_text"),
    "UTF-16 called UTF-8": Bad(html(f"<p>{CHINESE * 8}").encode("utf-16"), CHINESE, None, "text/html; charset=utf-8"),
    "UTF-16 without a mark": Bad(
        html(f"<p>{CHINESE * 80}").encode("utf-16-le"), CHINESE, None, "text/html; charset=gbk"
    ),
    "GB18030 called Latin-1": Bad(
        html(f"<p>{CHINESE * 8}").encode("gb18030"), CHINESE, None, "text/html; charset=iso-8859-1"
    ),
    "GB18030 that calls itself UTF-8": Bad(
        html(f"<p>{CHINESE * 8}", "<meta charset=utf-8>").encode("gb18030"), CHINESE
    ),
    "Shift-JIS called UTF-8": Bad(
        html(f"<p>{JAPANESE * 8}").encode("cp932"), JAPANESE, None, "text/html; charset=utf-8"
    ),
    "Shift-JIS that calls itself GBK": Bad(html(f"<p>{JAPANESE * 8}", "<meta charset=gbk>").encode("cp932"), JAPANESE),
    "PDF called HTML": Bad(b"%PDF-1.7\n" + BODY.encode(), "", "not_text"),
    "entities of entities": Bad(f"<!DOCTYPE html [<!ENTITY l0 'ha'>{LAUGHS}]>{html(BODY + '&l9;')}".encode(), FOX),
    "a million entities": Bad(html(f"{BODY}<p>{'&lt;' * 1_000_000}</p>{BODY}").encode(), FOX),
    "an entity of 100,000 digits": Bad(
        html(f"{BODY}<p>&#{'1' * 100_000};", f"<meta property=og:title content='&amp;#{'1' * 100_000};'>").encode(), FOX
    ),
    "colspan 10**9": Bad(_cells("colspan=1000000000 rowspan=1000000000").encode(), FOX),
    "empty body": Bad(html("").encode(), "", "no_text"),
    "no bytes": Bad(b"", "", "no_text"),
    "an attribute without an end": Bad(html(f"{BODY * 3}<p title='{BODY}").encode(), FOX),
    "style sheet of end tags": Bad(html(BODY, f"<style>{('</style' + 'x' * 30) * 90_000}></style>").encode(), FOX),
    "JSON without an end": Bad(
        html(BODY, f"<script type='application/ld+json'>{{\"datePublished\": {'[' * 200_000}</script>").encode(), FOX
    ),
}
GOOD = [html(f"<h1>Page {n}</h1><p>Page {n}. {FOX * 4}</p>").encode() for n in range(2)]


def batch(payloads: list[bytes], types: list[str]) -> pa.RecordBatch:
    rows: list[dict[str, Any]] = [
        {"id": xxhash.xxh3_128_digest(payload), "source": "test", "payload": payload, "content_type": content_type}
        for payload, content_type in zip(payloads, types, strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=READ)


def guarded(**settings: object) -> Guard:
    stage = make(Extract, settings)
    return Guard(stage, load(stage.files(), CRAWL))


@pytest.fixture(scope="module")
def guards() -> dict[str, Guard]:
    """Each engine in its child process, as a run has it."""
    return {engine: guarded(engine=engine) for engine in ENGINES}


@pytest.fixture(scope="module")
def good(guards: dict[str, Guard]) -> dict[str, Outcome]:
    """What becomes of good pages by themselves."""
    return {engine: guard(batch(GOOD, ["text/html"] * 2)) for engine, guard in guards.items()}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_page_is_text_or_a_named_drop(
    engine: str, name: str, guards: dict[str, Guard], good: dict[str, Outcome]
) -> None:
    """One page of a crawl would end the run, vanish uncounted, become mojibake, or take its neighbours along."""
    bad = BAD[name]
    child = guards[engine]._child
    outcome = guards[engine](batch([GOOD[0], bad.payload, GOOD[1]], ["text/html", bad.content_type, "text/html"]))
    assert guards[engine]._child is child, "the child process died of it"
    assert [(row, reason) for row, reason, _, _ in outcome.dropped] == ([(1, bad.reason)] if bad.reason else [])
    neighbours = [0] if bad.reason else [0, 1]
    assert outcome.batch.slice(0, 1).equals(good[engine].batch.slice(0, 1))
    assert outcome.batch.slice(len(neighbours), 1).equals(good[engine].batch.slice(1, 1))
    outcome.batch.validate(full=True)
    if not bad.reason:
        assert bad.becomes.strip() in outcome.batch.column("text")[1].as_py()


@pytest.mark.parametrize("engine", ENGINES)
def test_limits_may_be_raised(engine: str) -> None:
    """A page that a recipe lets in would then break the extractor."""
    page = html(f"<p title='{'x' * 10_000_000}'>{FOX * 5}</p>").encode()
    stage = make(Extract, {"engine": engine, "max_bytes": 20_000_000})
    outcome = stage.bind(load(stage.files(), CRAWL))(batch([page], ["text/html"]))
    assert FOX.strip() in outcome.batch.column("text")[0].as_py()


def _near_the_limits() -> list[bytes]:
    """Pages on either side of the greatest effort, and one that takes some second of CPU."""
    tag = f"<p {' '.join(f'a{number}=x' for number in range(5_000))}>"
    below, above = (html(tag * tags + BODY).encode() for tags in (9, 11))
    assert 0.8 * MOST_WORK < effort(below).work < MOST_WORK < effort(above).work
    deep = "<div>" * 900 + "".join(f"<p>word {n} in it, and more.</p>" for n in range(35_000))
    return [below, above, html(deep).encode()]


@contextmanager
def busy_loops() -> Iterator[None]:
    """Two loops that take all the time they get."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.slow
def test_a_busy_machine_changes_nothing(guards: dict[str, Guard]) -> None:
    """On a busy machine, pages would be dropped as if they hung: datatrove lost 171 of 200 to its limit of a second."""
    with (CRAWL / "web-000.warc.gz").open("rb") as file:
        real = [record.reader.read() for record in ArchiveIterator(file, record_types=WarcRecordType.response)]
    assert len(real) > 20
    hard = batch(real + _near_the_limits(), ["text/html"] * (len(real) + 3))
    easy = batch(real[:10], ["text/html"] * 10)
    given = {"blocks": hard, "trafilatura": easy, "resiliparse": easy}
    alone = {engine: guard(given[engine]) for engine, guard in guards.items()}
    with busy_loops():
        beside = {engine: guard(given[engine]) for engine, guard in guards.items()}
    for engine in ENGINES:
        assert beside[engine].batch.equals(alone[engine].batch)
        assert list(beside[engine].dropped) == list(alone[engine].dropped)
        assert beside[engine].counts == alone[engine].counts
    dropped = {row: reason for row, reason, _, _ in alone["blocks"].dropped}
    assert not set(REASONS) & set(dropped.values())
    assert [dropped.get(len(real) + number) for number in range(3)] == [None, "too_complex", None]
