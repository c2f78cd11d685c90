"""`corpusmill report`: the page stands alone, shows what the tables hold, and lets no document of the crawl act."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_run import run_here, write_recipe
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import UserError
from pipeline.ledger import Ledger, Row
from pipeline.look import content, histogram, scores
from pipeline.look.report import charts, compare, facts, marks, page, single
from pipeline.look.runfolder import RunFolder
from pipeline.recipe import read_recipe
from pipeline.work import Context
from stages.toxicity import Toxicity

HOSTILE = (
    "<script>window.hacked = 1</script> </script><script>window.hacked = 2</script> "
    "<img src=x onerror='window.hacked=3'> <!-- --><svg onload=window.hacked=4> "
    "{{ 7 * 7 }} \u2028\u2029 \u202e reversed \x00\x1b[31m ]]> "
    "&lt;b&gt; $kept "
)
RUDE = "What a load of shit and more shit, you fucking bastards, said the author of this very rude and long document. "
WORDS = " ".join(["the river and the market of small people have been quiet with this and that"] * 6)
OTHERS = (
    "هذا نص عربي طويل عن السوق والنهر والناس في المدينة الصغيرة التي نحبها كثيرا ونعود إليها " * 6,
    "河流和市場上的人們在安靜的早晨唱歌，小房子裡有明亮的燈光。" * 12,
)


def _hostile_recipe(folder: Path) -> Path:
    """A small recipe whose documents would do harm if a page let them."""
    path = write_recipe(
        folder,
        stages=[{"normalize": {}}, {"gopher_quality": {"min_words": 30}}, {"toxicity": {"fallback_language": "en"}}],
        inputs=[
            {"source": "notes", "path": "crawl/notes-*.jsonl", "format": "jsonl"},
            {"source": "evil", "path": "crawl/evil*.jsonl", "format": "jsonl", "fields": {"url": "link"}},
        ],
        mixture={"shares": {"notes": 0.5, "evil": 0.5}},
    )
    rows = [
        {"text": f"{HOSTILE} {WORDS} {number}", "link": f"https://e.example/{HOSTILE}/{number}"} for number in range(6)
    ]
    rows += [{"text": HOSTILE + "short", "link": "javascript:window.hacked=5"}, {"text": RUDE * 3}]
    rows += [{"text": RUDE + WORDS * 9, "link": "https://rude.example/kept"}]
    rows += [{"text": text, "link": "https://$kept/"} for text in OTHERS]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "crawl" / "evil [b] <script>window.hacked=6<.jsonl").write_text(lines, "utf-8")
    return path


@pytest.fixture(scope="module")
def runs(shared: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Path, Path, Path]:
    """The recipe, its run, and one with other limits that ends with its documents."""

    def make(folder: Path) -> None:
        recipe = _hostile_recipe(folder)
        run_here(recipe, folder / "a")
        settings = yaml.safe_load(recipe.read_text("utf-8"))
        for name in ("tokenizer", "mixture", "shards", "dedup"):
            del settings[name]
        settings["stages"][1]["gopher_quality"]["min_words"] = 100
        recipe.with_name("other.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        run_here(recipe.with_name("other.yaml"), folder / "b")

    folder = shared("report", make)
    return folder / "small.yaml", folder / "a", folder / "b"


@pytest.fixture(scope="module")
def pages(runs: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run, of one without tokens, and of both."""
    _, a, b = runs
    folder = tmp_path_factory.mktemp("pages")
    asked = facts.Asked(0.04)
    made = {"one": single.report(a, asked), "bare": single.report(b, asked), "two": compare.report(a, b, asked)}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in made}


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", ["one", "bare", "two"])
def test_nothing_of_a_document_becomes_markup(pages: dict[str, Path], name: str) -> None:
    """Else whoever publishes a web page could run code with the reader of a report."""
    elements = Elements(pages[name].read_text("utf-8")).found
    tags = {tag for tag, _ in elements}
    assert not tags & {"svg", "img", "b2", "iframe", "object", "link", "form", "base"}
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert sum(not attributes for attributes in scripts) == 2
    assert all(attributes.get("type") == "application/json" for attributes in scripts if attributes)
    for tag, attributes in elements:
        assert not [key for key in attributes if key.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes


def test_the_same_folder_gives_the_same_page(pages: dict[str, Path], runs: tuple[Path, Path, Path]) -> None:
    """Else two reports could not be compared, and a report could not be kept under version control."""
    _, a, b = runs
    assert single.report(a, facts.Asked(0.04)) == pages["one"].read_text("utf-8")
    assert compare.report(a, b, facts.Asked(0.04)) == pages["two"].read_text("utf-8")


def test_examples_are_the_records_that_were_dropped(runs: tuple[Path, Path, Path]) -> None:
    """Else a reader would judge a rule by documents that it never saw."""
    _, a, _ = runs
    found = facts.gather(a, facts.Asked())
    assert {key: len(rows) for key, rows in found.dropped.items()} == {
        (step["stage"], reason): min(count, 5)
        for step in found.overview["funnel"]
        for reason, count in step["dropped"].items()
    }
    few = found.dropped["gopher_quality", "gopher_quality.few_words"]
    hostile = [row for row in few if row["url"] == "javascript:window.hacked=5"]
    assert hostile
    assert hostile[0]["text"].startswith("<script>")
    assert all(row["text"] for rows in found.dropped.values() for row in rows if row["stage"] != "read")
    rude = [row for row in found.toxic if row["fate"] == "dropped"]
    assert [span.text.strip(",") for span in rude[0]["spans"] if span.kind == marks.FOUND][:3] == [
        "shit",
        "shit",
        "fucking",
    ]


def test_documents_at_a_limit_are_the_nearest(runs: tuple[Path, Path, Path]) -> None:
    """Else the examples on either side would say nothing about where the limit should stand."""
    _, a, _ = runs
    found = facts.gather(a, facts.Asked())
    rule = next(rule for rule in found.rules if rule.setting == "min_words")
    table = pq.read_table(
        RunFolder(a).parts("measures"), columns=["id", "gopher_quality.min_words", "gopher_quality.broken"]
    )
    rows = [row for row in table.to_pylist() if row["gopher_quality.broken"] is not None]
    lost = sorted(row["gopher_quality.min_words"] for row in rows if row["gopher_quality.min_words"] < 30)
    kept = {row["id"]: row["gopher_quality.min_words"] for row in rows if not row["gopher_quality.broken"]}
    assert [near.value for near in rule.lost] == lost[::-1][:5]
    assert rule.broken == len(lost)
    there = set(pq.read_table(RunFolder(a).parts("clean"), columns=["id"]).column("id").to_pylist())
    assert [near.value for near in rule.kept] == sorted(value for one, value in kept.items() if one in there)[:5]
    assert all(found.near[near.id]["text"] for near in (*rule.kept, *rule.lost))


def test_documents_of_one_run_alone(runs: tuple[Path, Path, Path]) -> None:
    """Else a comparison would miss documents, or blame the wrong rule for them."""
    _, a, b = runs
    ids = [
        set(pq.read_table(RunFolder(run).parts("documents"), columns=["id"]).column("id").to_pylist()) for run in (a, b)
    ]
    found = compare._alone([RunFolder(a), RunFolder(b)], 3)
    assert found["common"] == len(ids[0] & ids[1]) > 0
    assert [side.count for side in found["alone"]] == [len(ids[0] - ids[1]), len(ids[1] - ids[0])]
    for side, mine, theirs in ((found["alone"][0], *ids), (found["alone"][1], *ids[::-1])):
        assert sum(row["count"] for row in side.reasons) == side.count > 0
        for row in side.reasons:
            assert 0 < len(row["examples"]) <= 3
            assert all(one["id"] in mine - theirs and one["text"] for one in row["examples"])
    assert [row["reason"] for row in found["alone"][0].reasons] == ["gopher_quality.few_words"]


def _asked(folder: Path, **changes: Any) -> RunFolder:
    """A run that was asked for, as far as a comparison of recipes looks at it."""
    path = write_recipe(folder, **changes)
    return cast(RunFolder, SimpleNamespace(context=Context(folder, folder, read_recipe(path))))


def test_what_recipes_differ_in(tmp_path: Path) -> None:
    """Else a reader would look for the cause in a default that was written down, or miss that stages changed places."""
    first = _asked(tmp_path / "a", stages=["emoji", "normalize", {"gopher_quality": {"min_words": 30}}, "normalize"])
    stages = ["normalize", {"gopher_quality": {"min_words": 40}}, "pii", {"emoji": {"mode": "name"}}]
    second = _asked(tmp_path / "b", stages=stages)
    found = [(key, a, b) for key, a, b in compare._recipes(first, second) if not key.startswith("inputs.")]
    assert found == [
        ("stages.gopher_quality.min_words", "30", "40"),
        ("stages.normalize-2", "{}", "–"),
        ("stages.pii", "–", "{}"),
        ("order of stages", "emoji, normalize, gopher_quality, normalize-2", "normalize, gopher_quality, pii, emoji"),
    ]
    assert compare._recipes(first, first) == []
    inputs = [{"source": "notes", "path": "crawl/notes-*.jsonl", "format": "jsonl"}]
    fewer = _asked(tmp_path / "c", inputs=inputs, mixture=None)
    there = [(key, b) for key, _, b in compare._recipes(first, fewer) if key.startswith("inputs.")]
    assert [key for key, _ in there] == ["inputs.notes.path", "inputs.wet", "inputs.docs"]
    assert [b for _, b in there][1:] == ["–", "–"]


def test_a_stage_that_nothing_reached() -> None:
    """Else a comparison would say of a stage of both runs, one of them not there yet, that only one has it."""
    steps = [{"stage": "read", "entered": 9, "dropped": {"read.a": 9}}, {"stage": "url", "entered": 0, "dropped": {}}]
    one = cast(facts.Facts, SimpleNamespace(overview={"complete": True, "funnel": steps}))
    for done in (True, False):
        other = cast(facts.Facts, SimpleNamespace(overview={"complete": done, "funnel": steps[:1]}))
        assert [row["alone"] for row in compare._funnel(one, other)] == [False, done]
    assert [row["alone"] for row in compare._funnel(one, one)] == [False, False]


def test_a_run_on_its_way_beside_a_whole_one(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Else all documents of the whole run would be said to be none of the other's records, a trial's figures compared
    as if it had read everything."""
    half = Path(shutil.copytree(runs[2], tmp_path / "half"))
    shutil.rmtree(half / "ledger" / "rows" / "documents")
    (half / "ledger" / "complete.json").unlink()
    path = half / "ledger" / "context.json"
    context = json.loads(path.read_text("utf-8")) | {"trial": {"limit": 7, "sample": None}}
    path.write_text(json.dumps(context), "utf-8")
    text = compare.report(runs[1], half, facts.Asked())
    assert "Not in this report: B has no documents yet." in text
    assert compare.NOT_READ not in text
    assert "is a trial run over a part of the inputs (--limit 7)" in text


def test_a_corpus_without_its_run(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Else who got a published corpus would be told that it is nothing, not what reads it."""
    shutil.copy(runs[1] / "corpus.json", tmp_path)
    for command in ("inspect", "report"):
        done = CliRunner().invoke(app, [command, str(tmp_path)])
        assert done.exit_code == 1
        assert "no run folder: it holds a corpus" in done.output
        assert "`corpusmill card`" in done.output
    for name, why in (("nowhere", "there is no such folder"), ("corpus.json", "it is a file")):
        with pytest.raises(UserError, match=why):
            RunFolder(tmp_path / name)


def test_a_report_without_examples(runs: tuple[Path, Path, Path]) -> None:
    """Else `--examples 0`, for a page that may be shown to anyone, would end with a traceback."""
    found = facts.gather(runs[1], facts.Asked(examples=0))
    assert (found.dropped, found.kept, found.toxic) == ({}, {}, [])
    assert found.rules
    assert not any(rule.kept or rule.lost for rule in found.rules)
    assert not any(
        row["examples"]
        for side in compare._alone([RunFolder(run) for run in runs[1:]], 0)["alone"]
        for row in side.reasons
    )


def test_inspect_shows_names_as_they_are(runs: tuple[Path, Path, Path]) -> None:
    """Else brackets in the name of a file would be taken for markup and cut out of it."""
    done = CliRunner().invoke(app, ["inspect", str(runs[1])])
    assert done.exit_code == 0
    assert "evil [b] <script>" in done.output


def test_the_ledger_is_read_once(runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a report of a crawl of many files would read its many thousand manifest rows over and over."""
    read: list[tuple[str, str]] = []
    real = Ledger.read_row

    def noted(self: Ledger, phase: str, key: str) -> Row | None:
        read.append((phase, key))
        return real(self, phase, key)

    monkeypatch.setattr(Ledger, "read_row", noted)
    facts.gather(runs[1], facts.Asked())
    assert len(read) == len(set(read)) > 5


def test_parts_that_a_run_has_not_got(pages: dict[str, Path], runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Else a report of a run without tokens, of half a run or of a cleaned folder would be a traceback."""
    bare = pages["bare"].read_text("utf-8")
    assert "Not in this report: the recipe asks for no tokenizer" in bare
    assert "No duplicates among" in bare
    half = Path(shutil.copytree(runs[1], tmp_path / "half"))
    for phase in ("documents", "tokenizer", "tokenise", "plan", "shard", "clusters", "losers"):
        shutil.rmtree(half / "ledger" / "rows" / phase)
    (half / "ledger" / "complete.json").unlink()
    (half / "corpus.json").unlink()
    text = single.report(half, facts.Asked())
    assert "The run is not complete" in text
    assert "the run has no documents yet" in text
    assert "records read so far" in text, "else it would say that none is kept"
    gone = Path(shutil.copytree(runs[1], tmp_path / "gone"))
    from pipeline.look import clean_folder

    clean_folder.carry_out(clean_folder.plan(gone, ["shards"]))
    assert "took the dropped records away" in single.report(gone, facts.Asked())
    assert "Not in this report" in compare.report(gone, runs[2], facts.Asked())


def test_report_without_its_packages(runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who installed corpusmill without the extra would see a traceback instead of what to install."""
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "jinja2":
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"needs jinja2; install it with `pip install 'corpusmill\[look\]'"):
        page.render("run.html", {}, {})


def test_inspect_tells_lengths_and_hosts(runs: tuple[Path, Path, Path]) -> None:
    """Else the terminal would not say what the documents look like, or say something wrong."""
    run = RunFolder(runs[1])
    table = pq.read_table(run.parts("documents"), columns=["url", "characters"])
    found = content.lengths(run)
    assert set(found) == {"characters", "tokens"}
    lengths = table.column("characters").to_numpy()
    assert found["characters"]["quantiles"]["1.0"] == lengths.max()
    assert sum(found["characters"]["histogram"]["passing"]) == len(lengths) == found["tokens"]["documents"]
    hosts = content.hosts(run, 3)
    assert hosts is not None
    mine = [url for url in table.column("url").to_pylist() if url and url.startswith("https://e.example/")]
    assert {row["host"]: row["documents"] for row in hosts["by_documents"]}["e.example"] == len(mine)
    assert hosts["documents"] == len(table)


@given(
    st.lists(st.floats(allow_infinity=True, allow_nan=True, width=32), max_size=60),
    st.one_of(st.none(), st.floats(-10, 100)),
    st.booleans(),
)
def test_histograms_lose_no_value(values: list[float], limit: float | None, upper: bool) -> None:
    """Else a chart would show fewer documents than there are, or put them on the wrong side of the limit."""
    array = np.array(values, np.float64)
    broken = np.zeros(len(array), np.bool_) if limit is None else array > limit if upper else array < limit
    made = histogram.histogram(array, broken, limit)
    finite = np.isfinite(array)
    if made is None:
        assert not finite.any()
        return
    assert sum(made.passing) == int((finite & ~broken).sum())
    assert sum(made.breaking) == int((finite & broken).sum())
    assert len(made.edges) == len(made.passing) + 1 == len(made.breaking) + 1 <= 70
    assert json.loads(page.in_script(vars(made))) == vars(made)


CHARTS = """[...document.querySelectorAll('[data-chart]')].map(one =>
    [one.dataset.chart, one.dataset.drawn, one.offsetParent !== null, one.querySelectorAll('svg').length])"""
"""Each chart: its name, whether it was drawn, whether it is to be seen, and how many drawings it holds."""
TEXTS = st.text(st.sampled_from("ab ,.\n漢字的ع\u0301"), max_size=40)


def test_columns_of_any_size() -> None:
    """Else a column of hashes or of bytes, which a stage of one's own may write, would end with a traceback."""
    column = pa.array([2**63 + 1, None, 20_000_001], pa.uint64())
    values = facts._numbers(column)
    assert values[[0, 2]].tolist() == [2.0**63, 20_000_001]
    assert np.isnan(values[1])
    run = SimpleNamespace(batches=lambda folder, names: [pa.record_batch([column], names=names)])
    quantiles = scores._spread(cast(RunFolder, run), "own", ())["quantiles"]
    assert (quantiles["0.0"], quantiles["1.0"]) == (20_000_001, 2.0**63)


@given(TEXTS, TEXTS)
def test_differences_give_both_texts_back(before: str, after: str) -> None:
    """Else the two sides of a pair of duplicates would show what no document says."""
    left, right = marks.difference(before, after)
    assert "".join(span.text for span in left) == before
    assert "".join(span.text for span in right) == after
    assert (before == after) == all(span.kind == marks.SAME for span in (*left, *right))


@given(st.text(st.sampled_from("<>&/'\"\u2028\u2029 -![]script"), max_size=40))
def test_data_in_scripts_cannot_end_them(text: str) -> None:
    """Else a title with `</script>` would end the data and begin its own."""
    made = page.in_script({"a": text})
    assert not set(made) & set("<>&\u2028\u2029")
    assert json.loads(made) == {"a": text}


def test_spans_of_every_script(tmp_path: Path) -> None:
    """Else what a list finds would be marked in English alone, or whole sentences in Chinese."""
    (tmp_path / "a.jsonl").write_text("{}", "utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("inputs: [{source: a, path: a.jsonl, format: jsonl}]\nstages: []\n", "utf-8")
    words = tmp_path / "words.txt"
    words.write_text("坏蛋\nbad word\nمقرف\n", "utf-8")
    context = Context(tmp_path / "out", tmp_path, read_recipe(recipe))
    spans = marks.Spans(context, Toxicity(lists=(str(words),)))
    for text, found in (
        ("他是一个坏蛋，真的。", ["坏蛋"]),
        ("such a bad word here, and bad news", ["bad word"]),
        ("هذا مقرف جدا", ["مقرف"]),
        ("nothing at all", []),
    ):
        marked = spans.mark(text, None)
        assert [span.text for span in marked if span.kind == marks.FOUND] == found
        assert not marked or "".join(span.text for span in marked) == text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, or a skip where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    quiet += "--disable-component-update --disable-sync"
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=quiet.split())
        yield started
        started.close()


def _opened(browser: Any, path: Path, width: int) -> tuple[Any, list[str]]:
    """A page, drawn, and what went wrong on it."""
    problems: list[str] = []
    view = browser.new_page(viewport={"width": width, "height": 900})
    view.set_default_timeout(120_000)
    view.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    view.on("pageerror", lambda error: problems.append(f"error: {error}"))
    view.on("request", lambda asked: problems.append(asked.url) if not asked.url.startswith("file:") else None)
    view.goto(path.as_uri())
    view.wait_for_selector("html[data-ready]", state="attached")
    return view, problems


def _check_page(view: Any, problems: list[str], name: str, width: int) -> None:
    """That all charts are drawn, nothing of a document runs and nothing is wider than the window."""
    drawn = view.evaluate(CHARTS)
    assert len(drawn) > 5
    assert [chart for chart, done, shown, svgs in drawn if shown and (done != "yes" or not svgs)] == []
    if name != "two":
        assert "$kept" in view.locator("[data-chart=hosts-documents]").text_content(), "a colour in place of a host"
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    view.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    view.wait_for_timeout(50)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("window.hacked") is None
    assert problems == []
    view.close()


@pytest.mark.parametrize(("name", "width"), [("one", 390), ("two", 1600), ("bare", 390)])
def test_in_a_browser(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    """Else the page might be blank, ask the network, run what a document holds, or overflow a phone."""
    _check_page(*_opened(browser, pages[name], width), name, width)


def test_tables_sort_and_links_open(browser: Any, pages: dict[str, Path]) -> None:
    """Else a reader could not find the stage that drops most, nor the records behind a reason, or see a page that is
    wrong in a wide window."""
    view, problems = _opened(browser, pages["one"], 1600)
    table = view.locator("#funnel table")
    table.locator("thead th", has_text="dropped").click()
    counts = [
        int(text.replace(",", "").replace("–", "0"))
        for text in table.locator("tbody td:nth-child(3)").all_inner_texts()
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0
    table.locator("a", has_text="few_words").click()
    assert view.locator("#r-gopher-quality-gopher-quality-few-words .doc").first.is_visible()
    _check_page(view, problems, "one", 1600)


def test_names_are_no_markup_in_charts() -> None:
    """Plotly makes links of names: a host could put one of its own into the report."""
    drawn = json.dumps(charts.rows(["<a href='http://x'>"], [1], ["<b>h</b>"]))
    assert "<a" not in drawn
    assert "<b>" not in drawn
