"""`sources` of a stage: what is right for web pages is not right for books and code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here, write_recipe

from pipeline import accounts
from pipeline.errors import RecipeError
from pipeline.ledger import Ledger
from pipeline.limited import PASSED, Limited
from pipeline.look.overview import overview
from pipeline.phases.clean import chain_facts
from pipeline.recipe import Recipe, read_recipe
from pipeline.resources import load
from pipeline.work import Context
from stages.extract import Extract
from stages.quality import statistics
from stages.quality.fineweb import FineWebQuality
from stages.quality.repetition import GopherRepetition
from stages.schema import READ

MANY = 400
PAGE = b"<article><p>Some text of a page, and more of it, so that it is one.</p></article>"
STAGES: list[dict[str, Any]] = [
    {"normalize": {"sources": ["docs", "wet"]}},
    {"gopher_repetition": {"sources": ["docs"]}},
    {"gopher_quality": {"min_words": MANY, "sources": ["docs"]}},
    {"emoji": {}},
    {"classify": {"sources": ["notes"]}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages are for some sources each."""
    folder = tmp_path_factory.mktemp("sources")
    rest: dict[str, Any] = {"dedup": {}, "tokenizer": None, "mixture": None, "shards": None}
    recipe = write_recipe(folder, stages=STAGES, host={"repeated_lines": {"min_pages": 2}}, **rest)
    run_here(recipe, folder / "run")
    return folder / "run"


def documents(run: Path) -> list[dict[str, Any]]:
    parts = sorted((run / "documents").glob("*.parquet"))
    rows: list[dict[str, Any]] = pa.concat_tables(map(pq.read_table, parts)).to_pylist()
    return rows


def test_documents_of_other_sources_pass_as_they_are(run: Path) -> None:
    """Else a rule for web pages would throw verse and code out of a mixture, or change them."""
    rows = documents(run)
    lengths = {name: [len(row["text"].split()) for row in rows if row["source"] == name] for name in ("docs", "notes")}
    assert min(lengths["notes"]) < MANY < min(lengths["docs"])
    funnel = {step["stage"]: step for step in overview(run)["funnel"]}
    assert set(funnel["gopher_quality"]["dropped"]) >= {"gopher_quality.few_words"}
    of_docs = funnel["gopher_repetition"]["entered"] - funnel["gopher_repetition"]["counts"][PASSED]
    assert 40 < of_docs < 60
    assert PASSED not in funnel["emoji"]["counts"]
    assert funnel["host"]["dropped"] == {}  # its length rules are those of the stages, for their sources


def test_columns_of_a_stage_are_null_for_other_sources(run: Path) -> None:
    """Else a mixture could not tell a score from none, or parts of two sources could not be read together."""
    for row in documents(run):
        assert (row["classifier"] is None) == (row["source"] != "notes")


def test_a_band_is_held_against_the_sources_of_the_stage(run: Path) -> None:
    """Else the documents of other sources would hide that a filter throws out all of its own."""
    (step,) = [step for step in accounts.funnel(Ledger(run)) if step.stage == "gopher_quality"]
    assert step.judged == step.entered - step.counts[PASSED] < step.entered
    assert step.lost / step.judged > 0.2 > step.lost / step.entered


def test_other_sources_are_another_result(tmp_path: Path) -> None:
    """Else a changed `sources` would keep what the old one made."""
    path = write_recipe(tmp_path, stages=STAGES)

    def facts(*changes: str) -> list[dict[str, Any]]:
        return chain_facts(Context(tmp_path / "out", tmp_path, read_recipe(path, list(changes))))

    assert facts("stages.gopher_quality.sources=[docs, wet]") != facts()
    assert "sources" not in facts()[3]  # what has none has the key that it always had


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[dosc]", r"stages.gopher_quality.sources: no input has the source 'dosc'. Did you mean 'docs'\?"),
        ("[]", r"stages.gopher_quality.sources: should be a list of the recipe's sources, as \[notes\], found \[\]"),
        (
            "docs",
            r"stages.gopher_quality.sources: should be a list of the recipe's sources, as \[notes\], found 'docs'",
        ),
        ("[1]", r"stages.gopher_quality.sources: should be a list .* found \[1\]"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, sources: str, message: str) -> None:
    """Else a stage would be for no document at all, and nobody would notice."""
    with pytest.raises(RecipeError, match=message):
        read_recipe(write_recipe(tmp_path), [f"stages.gopher_quality.sources={sources}"])


def test_a_misspelt_key_is_answered_with_it(tmp_path: Path) -> None:
    """The setting is no stage's own, and would not be among those that the message knows."""
    with pytest.raises(RecipeError, match=r"gopher_quality.source: no such key. Did you mean 'sources'\?"):
        read_recipe(write_recipe(tmp_path), ["stages.gopher_quality.source=[docs]"])


def test_pages_need_an_extractor_for_their_source(tmp_path: Path) -> None:
    """Else the pages of a source that `extract` is not for would end as documents without a text."""
    (tmp_path / "a.warc").write_bytes(b"")
    inputs = [{"source": name, "path": "a.warc", "format": "warc"} for name in ("one", "two")]
    data: dict[str, Any] = {"name": "x", "inputs": inputs, "stages": [{"extract": {"sources": ["one"]}}]}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(RecipeError, match=r"inputs of 'two' are warc.*add `two` to the sources of extract"):
        read_recipe(path)
    data["stages"].append({"extract": {"sources": ["two"]}})
    path.write_text(yaml.safe_dump(data))
    assert read_recipe(path).sources_of() == {"extract": ["one"], "extract-2": ["two"]}


def test_a_stage_takes_nothing_out_of_documents_of_other_sources() -> None:
    """Else the pages of a source with an extractor of its own would be gone behind the first extractor: no text."""
    values = {"id": bytes(16), "source": "two", "payload": PAGE, "content_type": "text/html"}
    page = pa.RecordBatch.from_pylist([values], schema=READ)
    extract = Extract().bind(load(Extract().files(), Path()))
    passed = Limited(extract, ["one"])(page)
    assert passed.batch.column("payload").to_pylist() == [PAGE]
    assert passed.batch.column("robots").null_count == 1
    (made,) = Limited(extract, ["two"])(passed.batch).batch.to_pylist()
    assert made["text"].startswith("Some text")
    assert "payload" not in made


def test_a_recipe_in_a_run_folder_keeps_the_sources(tmp_path: Path) -> None:
    """Else what looks a page up in a run would put it through other stages than the run did."""
    recipe = read_recipe(write_recipe(tmp_path, stages=STAGES))
    assert Recipe.model_validate(recipe.model_dump(mode="json"), strict=False).sources_of() == recipe.sources_of()


def test_counts_beside_the_text_do_not_outlive_a_stage_that_is_passed() -> None:
    """Else a stage for all sources would read the counts of texts that nobody counted: none."""
    values = {"id": bytes(16), "source": "b", "text": "One two three.\n" * 9}
    page = pa.RecordBatch.from_pylist([values], schema=READ)
    passed = Limited(GopherRepetition().process, ["a"])(page)
    assert passed.counts == {PASSED: 1}
    assert statistics.COLUMN not in passed.batch.schema.names
    outcome = FineWebQuality().process(passed.batch)
    assert outcome.dropped[0][1] == "short_lines"
    assert Limited(GopherRepetition().process, ["b"])(page).dropped == GopherRepetition().process(page).dropped
