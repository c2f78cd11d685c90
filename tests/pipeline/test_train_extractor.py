"""`python -m pipeline.train_extractor`: the model can be made again, and has learned nothing that it is asked."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborHTMLParser

from pipeline.errors import UserError
from pipeline.train_extractor import __main__ as command
from pipeline.train_extractor import fit
from pipeline.train_extractor.examples import Example, example
from pipeline.train_extractor.labels import shares
from pipeline.train_extractor.pages import DataError, Page, load
from stages.decode import decode
from stages.extract.blocks import read
from stages.extract.folds import FOLDS
from stages.extract.model import dump, probabilities
from stages.extract.model import load as load_model
from stages.extract.scan import canonical, scan
from stages.extract.tokens import TOKENS, tokens

ROOT = Path(__file__).parents[2]
CRAWL = ROOT / "tests" / "data" / "crawl" / "web-000.warc.gz"
SHARED = ROOT / ".." / "shared" / "data" / "crawl"
PAGES = 40
TREES = (6, 4)
"""Few: what these tests ask for does not depend on their number."""

try:
    fit.lightgbm()
    _missing = ""
except UserError as error:
    _missing = str(error)
needs_lightgbm = pytest.mark.skipif(bool(_missing), reason=_missing)


def paragraphs(html: str) -> str:
    """The long paragraphs of a page: gold enough to learn from."""
    texts = [node.text() for node in LexborHTMLParser(html).css("p, h1")]
    return "\n".join(text for text in texts if len(text) > 80)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training reads it: real pages of many sites, with a gold text each, and one without."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(CRAWL, folder)
    rows = []
    with CRAWL.open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            text = decode(record.reader.read(), record.http_headers.get("Content-Type")).text
            name = (record.record_id or "").removeprefix("<urn:page:").rstrip(">")
            gold = paragraphs(text) if len(rows) < PAGES else None
            url = record.headers["WARC-Target-URI"]
            rows.append({"id": name, "dataset": "tiny", "url": url, "lang": "en", "gold_text": gold})
    write_gold(folder, [json.dumps(row) for row in rows])
    return folder


@pytest.fixture(scope="module")
def examples(data: Path) -> list[Example]:
    return [made for page in load(data) if (made := example(page)) is not None]


def write_gold(folder: Path, lines: list[str]) -> None:
    with gzip.open(folder / "gold.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "TREES", TREES)
    monkeypatch.setitem(fit.SETTINGS, "num_threads", 1)


@needs_lightgbm
def test_the_same_pages_give_the_same_model(data: Path, examples: list[Example], tmp_path: Path, short: None) -> None:
    """Nobody could make the model again that the project ships, nor say what it was made from.

    The other process has two threads, this one has one.
    """
    program = f"""
from pathlib import Path
from pipeline.train_extractor import __main__ as command, fit
fit.TREES = {TREES}
command.main(Path({str(data)!r}), Path({str(tmp_path / "new" / "model.npz")!r}))
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    made = (tmp_path / "new" / "model.npz").read_bytes()
    assert dump(fit.Trainer(examples, lambda text: None).model()) == made

    text = "The quick brown fox jumps over the lazy dog, and then it sleeps under the old tree until evening comes. "
    html = f"<nav><a href=/>Home</a> <a href=/x>Shop</a></nav><p>{text * 2}</p><footer><a href=/y>Imprint</a></footer>"
    menu, article, footer = probabilities(load_model(made), read(scan(canonical(html)))).tolist()
    assert article > max(menu, footer)


@needs_lightgbm
def test_a_model_for_a_fold_has_seen_nothing_of_it(examples: list[Example], short: None) -> None:
    """Every score of the benchmark would be better than what users get on sites of their own."""
    fold = examples[0].fold
    lied = [
        dataclasses.replace(each, target=1 - each.target, weight=5 * each.weight) if each.fold == fold else each
        for each in examples
    ]

    def silent(text: str) -> None:
        pass

    truth, lies = fit.Trainer(examples, silent), fit.Trainer(lied, silent)
    without = frozenset({fold})
    assert dump(truth.model(without)) == dump(lies.model(without))
    assert dump(truth.model()) != dump(lies.model())


@needs_lightgbm
def test_folds_are_written_one_for_each(data: Path, examples: list[Example], tmp_path: Path, short: None) -> None:
    """The benchmark would score pages by a model that knows their sites, or find none."""
    reports: list[str] = []
    command.train(data, tmp_path / "all.npz", tmp_path / "folds", reports.append)
    made = {path.name: path.read_bytes() for path in (tmp_path / "folds").iterdir()}
    assert sorted(made) == [f"fold-{fold}.npz" for fold in range(FOLDS)]
    assert len({*made.values(), (tmp_path / "all.npz").read_bytes()}) == FOLDS + 1
    for content in made.values():
        load_model(content)
    assert reports[0] == f"{len(examples)} pages of 104 have a text to learn from"


def test_no_site_is_on_both_sides_of_a_fold(examples: list[Example]) -> None:
    """A model would be scored on templates that it has learned by heart."""
    folds: dict[str, set[int]] = {}
    for each in examples:
        folds.setdefault(each.site, set()).add(each.fold)
    assert all(len(numbers) == 1 for numbers in folds.values())
    assert {next(iter(numbers)) for numbers in folds.values()} == set(range(FOLDS))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared pages with gold text are not here")
def test_no_site_of_the_shared_pages_is_on_both_sides_of_a_fold() -> None:
    """The same, for the pages that the shipped model and its published scores come from."""
    with gzip.open(SHARED / "gold.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    folds: dict[str, set[int]] = {}
    for row in rows:
        page = Page(row["id"], row["dataset"], row["url"], None, None, None, None, (), (), b"", None)
        folds.setdefault(page.site, set()).add(page.fold)
    assert len(folds) > 1000
    assert all(len(numbers) == 1 for numbers in folds.values())


def fault(folder: Path, out: Path | None = None, folds: Path | None = None) -> str:
    """The one message that training ends with."""
    with pytest.raises(SystemExit) as ended:
        command.main(folder, out, folds)
    return str(ended.value.code)


@needs_lightgbm
def test_wrong_arguments_are_said(data: Path, tmp_path: Path) -> None:
    """A training of ten minutes would end in a traceback, or with nothing written."""
    out = tmp_path / "model.npz"
    assert "give --out FILE" in fault(data)
    assert "is not there" in fault(tmp_path / "none", out)
    assert "holds no *.warc.gz" in fault(tmp_path, out)
    assert "is a folder" in fault(data, tmp_path)
    assert not list(tmp_path.iterdir())


@needs_lightgbm
def test_too_few_sites_are_said(tmp_path: Path) -> None:
    """LightGBM's own error speaks of arrays, not of pages."""
    shutil.copy(CRAWL, tmp_path)
    write_gold(tmp_path, [])
    words = [sys.executable, "-m", "pipeline.train_extractor", str(tmp_path), "--out", str(tmp_path / "model.npz")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "two folds or more" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.npz").exists()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "line 1: this is no JSON"),
        (["[]"], "line 1: each line is an object"),
        (['{"id": 7}'], "line 1: each line is an object"),
        (['{"id": "a", "with_snippets": "b"}'], "line 1: `with_snippets` is a list"),
        (['{"id": "a"}'], "1 pages of .* have no record .* the first is a"),
    ],
)
def test_a_broken_gold_file_is_said_with_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    """Somebody with data of their own could not find the row that is wrong among thousands."""
    shutil.copy(CRAWL, tmp_path)
    write_gold(tmp_path, lines)
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_a_gold_file_that_is_cut_short_is_said(data: Path, tmp_path: Path) -> None:
    """A model would be made of half the data, and nobody know."""
    shutil.copy(CRAWL, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gold\.jsonl\.gz is not there"):
        load(tmp_path)
    whole = (data / "gold.jsonl.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"no gzip"):
        (tmp_path / "gold.jsonl.gz").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            load(tmp_path)


def test_missing_openmp_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a bare machine LightGBM's wheel does not load, and its error does not say what to install."""

    def absent(name: str) -> object:
        raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(fit.importlib, "import_module", absent)
    monkeypatch.setattr(fit, "_openmp_of_torch", lambda: False)
    with pytest.raises(UserError, match="apt install libgomp1"):
        fit.lightgbm()


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who wants to train would have to guess what to install."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UserError, match=r"install corpusmill\[extractor\]"):
        fit.lightgbm()


def test_a_word_of_the_menu_is_not_taken_for_the_same_word_in_the_text() -> None:
    """The model would learn that menus are text."""
    html = "<nav>Red Fox News</nav><p>A red fox news story was told here.</p><p>Red fox</p><aside>story</aside>"
    blocks = read(scan(canonical(html)))
    gold = tokens("A red fox news story was told here. Red fox")
    assert shares(blocks.token, blocks.token_block, len(blocks.counts), gold).tolist() == [0, 1, 1, 0]


def test_a_long_page_is_matched_like_a_short_one() -> None:
    """A page of a whole book would take the memory of the machine, or teach nothing."""
    words = np.arange(30_000, dtype=np.uint32) * np.uint32(2654435761)
    block = (np.arange(30_000) // 100).astype(np.int32)
    found = shares(words, block, 300, words[10_000:25_000])
    assert (found[100:250] > 0.9).all()
    assert (found[:99] == 0).all()
    assert (found[251:] == 0).all()


def test_snippets_overrule_the_silver_text() -> None:
    """Pages of which people wrote down what belongs and what does not would teach what trafilatura believes."""
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps under the old tree until evening comes. "
    html = f"<nav>Buy now cheap</nav><article><h1>Fox</h1><p>{text * 3}</p><p>Share this at once</p></article>"
    page = Page("0123456789abcdef", "t", None, "en", None, None, None, ("Buy now cheap",), ("Share this at once",),
                html.encode(), "text/html")  # fmt: skip
    made = example(page)
    assert made is not None
    assert made.blocks.counts[:, TOKENS].tolist() == [3, 1, 60, 4]
    assert made.target.tolist()[0] == 1
    assert made.target.tolist()[2:] == [1, 0]
    assert example(dataclasses.replace(page, wanted=(), unwanted=())) is None
