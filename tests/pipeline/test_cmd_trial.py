"""`run --dry-run`, `--limit` and `--sample`: trying a recipe before its whole run is paid for."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from small_run import contents, run_here, write_recipe

from pipeline import accounts
from pipeline.cli import _share
from pipeline.errors import RecipeError
from pipeline.look import estimate
from pipeline.look.overview import overview
from pipeline.look.runfolder import RunFolder
from pipeline.look.verify import verify
from pipeline.recipe import read_recipe
from pipeline.work import Context, Trial

LESS = ("tokenizer.train.vocabulary=900", "shards.validation=0")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    """The whole run of the recipe."""
    run_here(recipe, recipe.parent / "run")
    return recipe.parent / "run"


def told(recipe: Path, out: Path, trial: Trial | None = None) -> str:
    """What a dry run says."""
    console = Console(width=500, record=True, color_system=None, file=io.StringIO())
    context = Context(out, recipe.parent, read_recipe(recipe), trial or Trial())
    estimate.dry_run(context, 2, console)
    return console.export_text()


def test_a_dry_run_writes_nothing(recipe: Path, tmp_path: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else looking would leave folders behind, or change what the run then does."""
    before = {path: path.stat().st_mtime_ns for path in recipe.parent.rglob("*")}
    done = corpusmill("run", recipe, "--dry-run", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in recipe.parent.rglob("*")} == before
    for text in ("stage gopher_quality (version", "source notes: 2 files", "estimate:", "disk for the whole run"):
        assert text in done.stdout


def test_a_dry_run_is_about_right(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """Else its figures would be worth nothing: here the files are small enough to be counted."""
    text = told(recipe, tmp_path / "none")
    records = {name: int(number) for name, number in re.findall(r"source (\w+): .*?about (\d+) records", text)}
    framed: dict[str, int] = {}
    for item in overview(whole)["inputs"]:
        framed[item["source"]] = framed.get(item["source"], 0) + item["framed"]
    assert records == framed
    assert "holds nothing yet" in text
    assert "all of it is done" in told(recipe, whole)
    assert "trial takes about 5" in told(recipe, whole, Trial(limit=5))
    assert "phase index would do 4 of its 4 units" in told(recipe, whole, Trial(limit=5))
    other = write_recipe(tmp_path / "other", name="other")
    with pytest.raises(RecipeError, match="recipe 'small'"):
        told(other, whole)


@pytest.mark.parametrize("limit", [1, 12, 45])
def test_limit(recipe: Path, tmp_path: Path, limit: int) -> None:
    """Else a trial would read the whole crawl, or not say what it left unread."""
    out = tmp_path / "run"
    shorter = tmp_path / "documents.yaml"
    shorter.write_text(_documents_only(recipe), "utf-8")
    run_here(shorter, out, trial=Trial(limit=limit))
    facts = overview(out)
    framed: dict[str, int] = {}
    for item in facts["inputs"]:
        framed[item["source"]] = framed.get(item["source"], 0) + item["framed"]
        assert item["bytes"] == item["spans"] + item["structure"] + sum(
            length for row in RunFolder(out).of("clean") if row.body["input"]["path"] == item["path"]
            for _, length, _ in row.body["gaps"]
        )  # fmt: skip
    assert framed == {"notes": min(limit, 59), "wet": min(limit, 26), "docs": min(limit, 54)}
    assert facts["records"]["balanced"]
    assert accounts.identity_problems(RunFolder(out).ledger) == []


def _documents_only(recipe: Path) -> str:
    """The recipe without its tokenizer and what follows, over the same inputs."""
    import yaml

    data = yaml.safe_load(recipe.read_text("utf-8"))
    for item in data["inputs"]:
        item["path"] = str(recipe.parent / item["path"])
    return yaml.safe_dump({name: data[name] for name in ("name", "inputs", "stages", "dedup")})


def ids(out: Path, *folders: str) -> list[bytes]:
    found: list[bytes] = []
    for folder in folders:
        for path in (out / folder).glob("*.parquet"):
            found += pq.read_table(path, columns=["id"]).column("id").to_pylist()
    return sorted(found)


def test_a_sample_and_then_the_whole(recipe: Path, whole: Path, tmp_path: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else two trials could not be compared, or a folder of a trial would not be fit for the whole run."""
    out, other = tmp_path / "run", tmp_path / "other"
    changes = [text for change in LESS for text in ("--set", change)]
    done = corpusmill("run", recipe, "--out", out, "--sample", "40%", "--workers", 2, *changes)
    assert "not sampled" in done.stdout
    run_here(recipe, other, *LESS, trial=Trial(sample=0.4))
    assert ids(out, "documents", "dropped") == ids(other, "documents", "dropped")
    assert contents(out, "shards") == contents(other, "shards")
    records = overview(out)["records"]
    assert records["balanced"]
    assert records["framed"] == overview(whole)["records"]["framed"]
    assert 0.2 < (records["kept"] + records["dropped"]) / records["framed"] < 0.6
    assert verify(out).damage == []
    in_funnel = overview(out)["funnel"]
    assert [step["kept"] for step in in_funnel[:-1]] == [step["entered"] for step in in_funnel[1:]]
    run_here(recipe, out)
    assert contents(out, "shards", "documents", "dropped") == contents(whole, "shards", "documents", "dropped")
    assert (out / "corpus.json").read_bytes() == (whole / "corpus.json").read_bytes()


def test_parts_without_a_row(recipe: Path, tmp_path: Path) -> None:
    """Else a run would stop where two inputs, or a small sample, leave nothing: their parts are equal."""
    shorter = tmp_path / "documents.yaml"
    shorter.write_text(_documents_only(recipe), "utf-8")
    run_here(shorter, tmp_path / "run", trial=Trial(sample=1e-9))
    assert overview(tmp_path / "run")["records"] == {
        "framed": 139, "kept": 0, "dropped": 0, "not_sampled": 139, "balanced": True,
    }  # fmt: skip


def test_a_trial_is_not_held_to_the_bands_of_the_whole(recipe: Path, tmp_path: Path) -> None:
    """Else the first dozen records would stop a trial for a rate that says nothing."""
    shorter = tmp_path / "documents.yaml"
    shorter.write_text(_documents_only(recipe) + "expect: {normalize: {drop: [0.5, 0.9]}}\n", "utf-8")
    assert run_here(shorter, tmp_path / "run", trial=Trial(limit=12))["clean"] >= 3


def test_a_share_that_is_none() -> None:
    """Else a typing error would run the whole crawl."""
    assert (_share("0.1%"), _share("0.25"), _share(None)) == (0.001, 0.25, None)
    for share in ("0", "150%", "much"):
        with pytest.raises(RecipeError, match=f"--sample {share}"):
            _share(share)
