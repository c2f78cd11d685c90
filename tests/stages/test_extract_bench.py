"""What `make bench-extract` counts: a rule that is too kind, or too strict, would hide what extraction loses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import extract, extract_contestants
from tests.bench.extract_contestants import fold_extractors, our_results, peer_texts
from tests.bench.extract_metadata import dated, same_title
from tests.bench.extract_report import compared
from tests.bench.extract_scoring import Page
from tests.bench.extract_structure import Markdown, kept, pieces

TEXT = "The quick brown fox jumps over the lazy dog. "


def page(html: str, **known: object) -> Page:
    blank = Page("0123456789abcdef", "wcxb-dev", None, "en", "article", None, None, (), (), html.encode(), "text/html")
    return dataclasses.replace(blank, **known)  # type: ignore[arg-type]


def test_code_counts_where_gold_has_it_and_only_line_by_line() -> None:
    """Code whose indentation or line breaks are gone would count as kept."""
    code = "def f(x):\n\n    return x  \n"
    found = pieces(page(f"<p>{TEXT}</p><pre>{code}</pre><pre>sidebar = 1</pre>"), f"{TEXT} def f(x): return x")
    assert found.pre == [code]
    assert kept(found, "```\ndef f(x):\n\n    return x\n```")["pre"] == (1, 1)
    assert kept(found, "- item\n\n  ```\n  def f(x):\n\n      return x\n  ```")["pre"] == (1, 1)
    assert kept(found, "```\ndef f(x):\n\nreturn x\n```")["pre"] == (0, 1)
    assert kept(found, "def f(x): return x")["pre"] == (0, 1)


def test_formulas_count_where_their_neighbours_stand_in_gold() -> None:
    """Formulas of a sidebar would count, or none would, since gold texts spell them in many ways."""
    html = (
        f"<p>{TEXT}First <math><semantics><mi>x</mi><annotation encoding='application/x-tex'>{{\\displaystyle x^2}}"
        f"</annotation></semantics></math> {TEXT}and \\(a  +\nb\\) then. {TEXT}</p>"
        f"<script type='math/tex'>y_1</script><p>{TEXT}</p>"
        "<aside>Something else altogether $$z$$ that no one wants to read</aside>"
    )
    found = pieces(page(html), f"{TEXT} First x² {TEXT} and a+b then. {TEXT}{TEXT}")
    assert found.tex == ["{\\displaystyle x^2}", "a  +\nb", "y_1"]
    assert kept(found, "First $x^2$ and $a + b$ then $y _1$")["tex"] == (2, 3)


def test_cells_count_as_cells_of_a_table() -> None:
    """A number that stands anywhere on the page would count as a table kept."""
    rows = "<tr><th>Name<th>Size</tr><tr><td>a <b>b</b><td>3</tr><tr><td>c|d<td><a href='/x'>4</a></tr>"
    html = f"<table>{rows}</table><table><tr><td>Home<td>Sign in here</tr><tr><td>Shop<td>Basket</tr></table>"
    found = pieces(page(html), "Name Size a b 3 c|d 4")
    assert [cell.strip() for cell in found.cells] == ["Name", "Size", "a b", "3", "c|d", "4"]
    table = "| Name | Size |\n| --- | --- |\n| a **b** | 3 |\n| c\\|d | [4](/x) |"
    assert kept(found, table)["cells"] == (6, 6)
    assert kept(found, "Name Size\na b 3\nc|d 4")["cells"] == (0, 6)
    assert not Markdown("").has("cells", "3")


def test_the_day_of_a_url_is_hidden_from_the_page() -> None:
    """Dates would be scored by whether a tool reads the very URL that the gold date comes from."""
    html = b"<link rel=canonical href='https://a.org/2019/05/12/x'><p>12 May 2019 2019/05/12</p>"
    ((scrubbed, day),) = dated(
        [
            page("", payload=html, url="https://a.org/2019/05/12/x"),
            page("", url="https://a.org/2019/13/12/x"),
            page("", url="https://a.org/p/20190512"),
            page("", url=None),
        ]
    )
    assert day == "2019-05-12"
    assert b"/2019/05/12/x" not in scrubbed.payload
    assert b"12 May 2019 2019/05/12" in scrubbed.payload
    assert same_title(" It’s  “A”", 'it\'s "a"')
    assert not same_title(None, "a")


def test_results_follow_their_page_past_drops() -> None:
    """Texts would be scored against the gold of another page."""
    members = [
        page(f"<html><title>T{number}</title><body><p>{TEXT * 6} Number {number}.</p></html>", id=f"{number:016x}")
        for number in range(4)
    ]
    members[1] = page("", id=f"{1:016x}", payload=b"%PDF-1.7")
    results = our_results(fold_extractors("trafilatura", "text", None), members)
    assert {name: result.dropped for name, result in results.items() if result.dropped} == {f"{1:016x}": "not_text"}
    for number in (0, 2, 3):
        result = results[f"{number:016x}"]
        assert result.title == f"T{number}"
        assert f"Number {number}." in result.text


def test_texts_of_others_are_kept_and_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache would serve another page's text, or a failing peer would end the run."""
    asked: list[str] = []

    def peer(page: Page) -> str:
        asked.append(page.id)
        if page.id == "b":
            raise ValueError
        return page.id * 2

    monkeypatch.setitem(extract_contestants.PEERS, "resiliparse", peer)
    first = peer_texts("resiliparse", [page("", id="a"), page("", id="b")], tmp_path)
    assert first == {"a": "aa", "b": ""}
    again = peer_texts("resiliparse", [page("", id="b"), page("", id="c\x85")], tmp_path)
    assert again == {"b": "", "c\x85": "c\x85c\x85"}
    assert peer_texts("resiliparse", [page("", id="c\x85")], tmp_path) == {"c\x85": "c\x85c\x85"}
    assert asked == ["a", "b", "c\x85"]


def test_goals_are_judged_by_the_right_end() -> None:
    """A goal would be called met that is not."""
    ours, theirs = [0.9, 0.8, 0.7] * 20, [0.9, 0.8, 0.6] * 20
    row = compared("", {"ours": ours, "trafilatura": theirs, "resiliparse": [0.0] * 60}, "", mean=0.04)
    assert row.difference is not None
    assert (row.met, row.against, round(row.difference.mean, 3)) == (False, "trafilatura", 0.033)
    swapped = {"ours": theirs, "trafilatura": [0.0] * 60, "resiliparse": ours}
    assert compared("", swapped, "", low=-0.03, against=None).met is False
    assert compared("", swapped, "", low=-0.07, against=None).against == "resiliparse"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "nonsense", "--only", "quality"], "nonsense"),
        (["--engine", "resiliparse", "--only", "structure"], "markdown"),
    ],
)
def test_what_cannot_run_is_said(
    arguments: Sequence[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user of `make bench-extract` would see a traceback, or a table without the part that was asked for."""
    monkeypatch.setattr(extract, "pages", lambda: [page("<p>x")])
    monkeypatch.setattr(extract, "peer_texts", lambda *_: {"0123456789abcdef": "x"})
    assert extract.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_without_the_data_the_benchmark_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout without the shared pages would show a traceback."""

    def absent() -> list[Page]:
        raise FileNotFoundError("crawl/gold.jsonl.gz of the shared data is not here")

    monkeypatch.setattr(extract, "pages", absent)
    assert extract.main(["--engine", "resiliparse"]) == 2
    assert "bench-extract cannot run: crawl/gold.jsonl.gz" in capsys.readouterr().err
