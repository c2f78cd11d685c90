"""`corpusmill try`: one page through the stages shows what a run would do to it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.errors import RecipeError
from pipeline.look.try_page import Trying, try_page
from pipeline.look.tryview import differences, print_trying
from pipeline.recipe import read_recipe
from pipeline.work import Context

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
SENTENCE = "The page is about the things that people of the town have to say to one another. "
PAGE = f"""<html><head><title>A page</title></head><body><article>
<p>{SENTENCE * 3}</p><p>It was â€œgreatâ€ fun \U0001f600 for all of us.</p></article></body></html>"""


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(Path("."), DEMO.parent, read_recipe(DEMO))


def shown(trying: Trying, *, full: bool = False) -> str:
    console = Console(width=500, record=True, color_system=None, file=io.StringIO())
    print_trying(trying, console, full=full)
    return console.export_text()


def test_a_file_through_every_stage(context: Context, tmp_path: Path) -> None:
    """Else settings would be tuned blindly, with a run for every try."""
    page = tmp_path / "page.html"
    page.write_text(PAGE, "utf-8")
    trying = try_page(context, str(page), None, "https://example.org/a")
    assert [step.stage for step in trying.steps] == [label for label, _ in context.chain]
    assert trying.dropped is None
    assert trying.source == "web"
    extracted, final = trying.steps[0].after, trying.steps[-1].after
    assert extracted is not None
    assert final is not None
    assert "<p>" not in extracted
    assert "“great" in final
    assert "grinning face" in final
    assert trying.steps[0].columns["title"] == "A page"
    told = shown(trying)
    assert "[-😀-]{+grinning face+}" in told
    assert "language en" in told
    assert "verdict: kept" in told


def test_a_page_that_is_dropped(context: Context, tmp_path: Path) -> None:
    """Else nobody would see by which rule, and by how much, a page fails."""
    page = tmp_path / "short.txt"
    page.write_text(SENTENCE, "utf-8")
    trying = try_page(context, str(page), "wet", None)
    assert trying.dropped == {
        "stage": "gopher_quality", "reason": "gopher_quality.few_words", "value": 17.0, "limit": 30.0,
    }  # fmt: skip
    assert trying.source == "wet"
    assert "gopher_quality.few_words, 17 against the limit 30" in shown(trying)
    assert [step.stage for step in trying.steps][-1] == "gopher_quality"


def test_a_url_gives_what_the_run_made_of_it(context: Context, demo_run: Path) -> None:
    """Else trying a page would tell something else than running the recipe."""
    rows = pq.read_table(demo_run / "documents", columns=["url", "text", "source"]).to_pylist()
    row = next(row for row in rows if row["source"] == "web" and "odd.example" not in row["url"])
    trying = try_page(context, row["url"], None, None)
    assert trying.dropped is None
    assert trying.steps[-1].after == row["text"]
    assert trying.source == row["source"]
    assert trying.origin is not None
    assert trying.origin["file"] in shown(trying)


def test_a_record_that_the_reader_rejects(context: Context) -> None:
    """Else a page that never reached the stages would seem not to be in the crawl."""
    trying = try_page(context, "https://odd.example.org/gone.html", "web", None)
    assert trying.steps == []
    assert trying.dropped == {"stage": "read", "reason": "read.http_status", "value": 404.0, "limit": 200.0}
    assert "dropped by read: read.http_status, 404 against the limit 200" in shown(trying)


def test_messages(context: Context, tmp_path: Path) -> None:
    """Else a wrong name would end in a traceback or in another source's settings."""
    empty, archive = tmp_path / "empty.html", tmp_path / "a.warc"
    empty.write_bytes(b"")
    archive.write_bytes(b"WARC/1.0\r\n\r\n")
    for page, source, message in [
        ("https://nosuch.example.com/", None, "none of the"),
        ("nosuch.html", None, "no file, and no URL"),
        (str(empty), None, "empty"),
        (str(archive), None, "archive"),
        (str(empty), "wep", "Did you mean 'we[bt]'"),
    ]:
        with pytest.raises(RecipeError, match=message):
            try_page(context, page, source, None)


def test_long_texts_are_shortened_and_controls_spelled(context: Context, tmp_path: Path) -> None:
    """Else a page could fill the screen, or steer the terminal."""
    page = tmp_path / "page.txt"
    page.write_text("\x1b[31m red \x1b[0m\n" + SENTENCE * 200, "utf-8")
    trying = try_page(context, str(page), None, None)
    assert "\x1b" not in shown(trying)
    assert len(shown(trying)) < 6_000
    page.write_text(f"<html><body><article><p>{SENTENCE * 200}</p></article></body></html>", "utf-8")
    trying = try_page(context, str(page), None, None)
    assert "--full shows all" in shown(trying)
    assert len(shown(trying)) < 4_000
    assert len(shown(trying, full=True)) > len(SENTENCE) * 199


@given(st.text(st.sampled_from("ab é字\n"), max_size=40), st.text(st.sampled_from("ab é字\n"), max_size=40))
def test_changes_that_are_shown_are_the_changes(old: str, new: str) -> None:
    """Else the marks would show a change that is not there, or hide one that is."""
    found = list(differences(old, new))
    assert bool(found) == (old != new)
    for before, gone, come, after in found:
        assert gone != come
        assert before in old
        assert after in old
        assert len(gone) <= 4 * len(old) + 4 * len(new)


def test_invisible_changes_are_spelled() -> None:
    """Else a zero-width space that was removed, or letters that were composed, would look like no change."""
    assert list(differences("a\u200bb cafe\u0301", "ab caf\u00e9")) == [
        ("a", "\\u200b", "", "b cafe\u0301"),
        ("a\u200bb caf", "e\\u0301", "\\xe9", ""),
    ]


def test_the_command(tmp_path: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else scripts could not compare recipes page by page."""
    page = tmp_path / "page.html"
    page.write_text(PAGE, "utf-8")
    facts = json.loads(corpusmill("try", DEMO, page, "--json", "--set", "stages.gopher_quality.min_words=500").stdout)
    assert (facts["kept"], facts["dropped"]["limit"]) == (False, 500)
    assert facts["stages"][0]["changed"] is True
