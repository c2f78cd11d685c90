"""Boilerplate lines of a host in a run: books, bands, what is redone, and the way back to the record."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from small_run import contents, run_here

from pipeline import accounts, edits
from pipeline.errors import DamageError, PromiseError, RecipeError
from pipeline.ledger import Ledger
from pipeline.look import clean_folder, dropped, reextract, trace
from pipeline.look.estimate import dry_run
from pipeline.look.overview import overview
from pipeline.look.overviewview import print_overview
from pipeline.look.runfolder import RunFolder
from pipeline.look.try_page import try_page
from pipeline.look.verify import verify
from pipeline.phases import signatures
from pipeline.recipe import read_recipe
from pipeline.work import Context

HEAD, TAIL = "Startseite | Über uns | Kontakt", "© 2024 всі права захищено, 版权所有"
INSIDE = "[bold] Sign up for our newsletter and never miss a story from this site again"
WORDS = (Path(__file__).parents[2] / "README.md").read_text("utf-8").split()
RECIPE: dict[str, Any] = {
    "name": "hosts",
    "inputs": [{"source": "web", "path": "crawl/*.jsonl", "format": "jsonl"}],
    "stages": [{"gopher_quality": {"min_words": 30, "min_alphabetic": 0.1, "min_stop_words": 0}}],
    "host": {"repeated_lines": {}},
    "dedup": {"exact": ["text"]},
    "tokenizer": {"train": {"vocabulary": 600, "sample_bytes": 30_000}},
    "shards": {"validation": 0.0, "tokens_per_shard": 60_000},
}


def page(rng: random.Random, number: int) -> str:
    """A text that no other is like."""
    words = [word for word in WORDS if word.isalpha()]
    return "\n".join(" ".join(rng.choices(words, k=11)) + f" {number}." for _ in range(4))


def crawl(folder: Path) -> dict[str, str]:
    """Pages of three hosts, two of them with lines of their own, in three files: URL to the text without these."""
    folder.mkdir(parents=True)
    rng = random.Random(8)
    rows, plain = [], {}
    for host in range(3):
        for number in range(40):
            url, text = f"https://www.host{host}.example/{number}", page(rng, number)
            plain[url] = text
            lines = text.split("\n")
            full = [HEAD, *lines[:2], INSIDE, *lines[2:], TAIL] if host < 2 and number < 30 else lines
            rows.append({"text": "\n".join(full), "url": url})
    short = {"text": f"{HEAD}\n{' '.join(page(rng, 99).split()[:20])}\n{TAIL}", "url": "https://host0.example/short"}
    copy = {"text": plain["https://www.host0.example/3"], "url": "https://host0.example/copy"}
    rows += [short, copy, {"text": f"{HEAD}\n{page(rng, 77)}", "url": None}]
    rng.shuffle(rows)
    for number in range(3):
        lines = "".join(json.dumps(row) + "\n" for row in rows[number::3])
        (folder / f"part-{number}.jsonl").write_text(lines, "utf-8")
    return plain


def written(folder: Path) -> Path:
    """The recipe over `folder/crawl`."""
    path = folder / "hosts.yaml"
    path.write_text(yaml.safe_dump(RECIPE), "utf-8")
    return path


@pytest.fixture(scope="module")
def made(shared: Any) -> tuple[Path, dict[str, str]]:
    """A folder with a crawl, its recipe and its run, and the texts without boilerplate. Not to be changed."""

    def make(folder: Path) -> None:
        plain = crawl(folder / "crawl")
        (folder / "plain.json").write_text(json.dumps(plain))
        run_here(written(folder), folder / "run")

    folder = shared("hosts", make)
    return folder, json.loads((folder / "plain.json").read_text())


def texts(out: Path) -> dict[str, str]:
    """The surviving texts by URL."""
    return {row["url"]: row["text"] for row in pq.read_table(out / "documents").to_pylist()}


def test_a_run_without_boilerplate(made: tuple[Path, dict[str, str]]) -> None:
    """Else menus and footers would be trained on, or the texts around them come back changed."""
    folder, plain = made
    found = texts(folder / "run")
    copy = {"https://www.host0.example/3", "https://host0.example/copy"}
    assert len(copy & found.keys()) == 1  # signatures are of the texts without boilerplate
    assert {url: text for url, text in found.items() if url and url not in copy} == {
        url: text for url, text in plain.items() if url not in copy
    }
    assert found[None].startswith(HEAD)  # type: ignore[index]  # documents without a URL are left alone


def test_the_books(made: tuple[Path, dict[str, str]]) -> None:
    """Else a document would be lost in this phase without a trace, or a broken setting empty the corpus unseen."""
    out = made[0] / "run"
    facts = overview(out)
    assert facts["records"] == {"framed": 123, "kept": 121, "dropped": 2, "not_sampled": 0, "balanced": True}
    names = [step["stage"] for step in facts["funnel"]]
    assert names == ["read", "gopher_quality", "host", "dedup"]
    step = facts["funnel"][2]
    assert (step["entered"], step["kept"]) == (123, 122)
    assert step["dropped"] == {"gopher_quality.few_words": 1}
    cut = 60 * (len(HEAD) + len(INSIDE) + len(TAIL) + 3)
    assert step["counts"] == {"characters_cut": cut, "documents_cut": 60, "lines_cut": 180}
    console = Console(width=200, record=True, file=io.StringIO())
    assert facts["host_lines"][0] == {"host": "host0.example", "line": HEAD, "pages": 31}
    assert len(facts["host_lines"]) == 6
    print_overview(facts, console)
    assert f"{INSIDE} │ host1.example │    30" in console.export_text()
    run = RunFolder(out)
    (row,) = dropped.records(run, dropped.choose(run, "few_words", None, None))
    assert (row["url"], row["stage"], row["value"], row["limit"]) == ("https://host0.example/short", "host", 20.0, 30.0)
    assert trace.of_document(run, row["id"].hex(), None)["fate"] == "dropped"
    assert verify(out).damage == []
    assert accounts.identity_problems(Ledger(out)) == []


def test_a_token_leads_to_its_record_and_back(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Else what a model learnt could not be shown to come from the crawl wherever a menu was cut, also when all that
    lies between the phases was cleaned away."""
    folder, plain = made
    run = RunFolder(folder / "run")
    rows: list[dict[str, Any]] = []
    for path in run.parts("shards"):
        rows += pq.read_table(path).to_pylist() if path.suffix == ".parquet" else []
    cut = [
        row for row in rows if row["url"] and plain.get(row["url"]) and not row["url"].startswith("https://www.host2")
    ]
    for row in random.Random(2).sample(cut, 3):
        again = reextract.extract_again(run, row)
        assert again.text == plain[row["url"]]
        assert again.other_versions == []
    here = tmp_path / "run"
    shutil.copytree(run.folder, here)
    clean_folder.carry_out(clean_folder.plan(here, ["shards"]))
    assert reextract.extract_again(RunFolder(here), cut[0]).text == plain[cut[0]["url"]]
    for path in (here / "edits").iterdir():
        path.unlink()
    with pytest.raises(DamageError, match="is missing; `corpusmill verify"):
        reextract.extract_again(RunFolder(here), cut[0])


def test_what_a_changed_setting_redoes(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Else trying another limit would read the whole crawl again; or an old decision would stay."""
    out = tmp_path / "run"
    shutil.copytree(made[0] / "run", out)
    recipe = made[0] / "hosts.yaml"
    assert run_here(recipe, out) == {}
    before = contents(out, "documents", "shards")
    done = run_here(recipe, out, "host.repeated_lines.min_pages=21")
    assert set(done) == {"host_lines", "host"}  # the texts are the same
    assert contents(out, "documents", "shards") == before
    done = run_here(recipe, out, "host.repeated_lines.min_pages=32")
    assert {"host_lines", "host", "signatures", "documents", "shard"} <= set(done)
    assert not {"clean", "lines"} & set(done)
    assert sum(HEAD in text for text in texts(out).values()) == 62
    done = run_here(recipe, out, "host=null")  # nothing was cut, so nothing is redone
    assert done == {}
    assert [step["stage"] for step in overview(out)["funnel"]] == ["read", "gopher_quality", "dedup"]
    context = Context(out, recipe.parent, read_recipe(recipe, ["host=null"]))
    (part, *_) = signatures.clean_parts(context)
    assert edits.where(context, part) == edits.Where(part.path)
    assert edits.digest(context, part) == part.digest


def test_names_and_order_of_files(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Else the same crawl, downloaded to another place, would lose other lines."""
    (tmp_path / "crawl").mkdir()
    for old, new in (("part-0", "z"), ("part-1", "m"), ("part-2", "a")):
        shutil.copy(made[0] / "crawl" / f"{old}.jsonl", tmp_path / "crawl" / f"{new}.jsonl")
    run_here(written(tmp_path), tmp_path / "run")
    assert texts(tmp_path / "run") == texts(made[0] / "run")
    for name in ("*.bin", "*.idx"):
        first, second = (
            {path.name: path.read_bytes() for path in (place / "run" / "shards").glob(name)}
            for place in (made[0], tmp_path)
        )
        assert first == second
        assert first


def test_a_band_is_kept(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Else a length rule that takes half of the corpus after the cut would be noticed when it is published."""
    out = tmp_path / "run"
    shutil.copytree(made[0] / "run", out)
    with pytest.raises(PromiseError, match=r"stage host dropped .* Reasons: gopher_quality.few_words 1"):
        run_here(made[0] / "hosts.yaml", out, "expect.host.drop=[0.5, 1.0]")
    with pytest.raises(RecipeError, match=r"expect.host: the recipe has no such stage"):
        read_recipe(made[0] / "hosts.yaml", ["host=null", "expect.host.drop=[0.5, 1.0]"])
    with pytest.raises(RecipeError, match=r"no input has the source 'wep'. Did you mean 'web'"):
        read_recipe(made[0] / "hosts.yaml", ["host.repeated_lines.sources=[wep]"])


def test_reading_edited_documents(made: tuple[Path, dict[str, str]]) -> None:
    """Else a phase behind it would see what was cut, or count other documents than there are."""
    folder, plain = made
    context = Context(folder / "run", folder, read_recipe(folder / "hosts.yaml"))
    seen: Counter[str] = Counter()
    for part in signatures.clean_parts(context):
        place = edits.where(context, part)
        assert place.edits is not None
        read = [row for batch in edits.read_documents(context, part) for row in batch.to_pylist()]
        again = [row for batch in edits.read_documents(context, list(place), ["text"]) for row in batch.to_pylist()]
        assert [row["text"] for row in read] == [row["text"] for row in again]
        assert edits.rows_of(context, part) == len(read)
        assert edits.digest(context, part) != part.digest
        seen.update(row["url"] for row in read)
        assert all(row["text"] == plain[row["url"]] for row in read if row["url"] in plain)
    assert "https://host0.example/short" not in seen
    assert (max(seen.values()), len(seen)) == (1, 122)


def test_looking_ahead(made: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Else a user would take the text of one page alone for what the whole run makes of it."""
    context = Context(tmp_path / "none", made[0], read_recipe(made[0] / "hosts.yaml"))
    trying = try_page(context, "https://www.host0.example/1", None, None)
    assert trying.untried == ["host", "dedup"]
    assert trying.steps[-1].after is not None
    assert HEAD in trying.steps[-1].after
    console = Console(width=200, record=True, file=io.StringIO())
    dry_run(context, 1, console)
    assert "all of it would be done" in console.export_text()
