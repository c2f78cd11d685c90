"""The recipes and configurations that come with us, each run over a few records of the samples that they name."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_run import run_here

from pipeline.limited import PASSED
from pipeline.look.overview import overview
from pipeline.recipe import read_recipe
from pipeline.work import Trial

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, SAMPLES = ROOT / "configs", ROOT / "tests" / "data" / "texts"


class Shipped(NamedTuple):
    """What a recipe makes of a part of its sample."""

    limit: int
    """Records of each source that are read."""
    kept: tuple[int, int]
    """Documents that it keeps: least and most."""
    dropped: tuple[str, ...]
    """Reasons that it must have found."""
    counted: tuple[tuple[str, str], ...]
    """Stage and figure that must be above 0."""
    changes: tuple[str, ...] = ()


RECIPES = {
    "fineweb": Shipped(
        45, (25, 44), ("c4.curly_bracket", "fineweb_quality.repeated_characters"),
        (("c4", "lines_cut_phrase"),),
    ),
    "c4": Shipped(30, (15, 25), ("c4.curly_bracket", "toxicity.toxic_words"), (("c4", "lines_cut_no_end_mark"),)),
    "refinedweb": Shipped(
        26, (15, 25), ("url.curated_source",),
        (("refinedweb_lines", "lines_cut_capitals"), ("refinedweb_lines", "lines_cut_one_word")),
    ),
    "chinese-web": Shipped(
        41, (25, 40), ("toxicity_model.toxic",), (("c4", "lines_cut_no_end_mark"),),
        ("inputs.0.path=../tests/data/crawl/web-zh.warc.zst",),
    ),
    "mixture": Shipped(30, (60, 89), ("c4.curly_bracket",), (("url", PASSED), ("secrets", PASSED))),
    "gpt2-corpus": Shipped(30, (15, 29), ("c4.curly_bracket",), (("c4", "characters_cut"),)),
}  # fmt: skip


def tried(name: str, out: Path) -> None:
    """Runs a recipe, whose books must balance, and looks at its funnel."""
    wanted = RECIPES[name]
    run_here(CONFIGS / f"{name}.yaml", out, *wanted.changes, trial=Trial(wanted.limit))
    facts = overview(out)
    assert facts["records"]["balanced"]
    assert wanted.kept[0] <= facts["records"]["kept"] <= wanted.kept[1]
    steps = {step["stage"]: step for step in facts["funnel"]}
    assert set(wanted.dropped) <= {reason for step in steps.values() for reason in step["dropped"]}
    for stage, figure in wanted.counted:
        assert steps[stage]["counts"][figure] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fineweb", "c4", "refinedweb", "chinese-web"])
def test_recipe_runs_and_filters(name: str, tmp_path: Path) -> None:
    """A recipe that we ship must not fail for the user who tries it first, nor throw out all or nothing."""
    tried(name, tmp_path)


@pytest.mark.slow
def test_mixture_takes_each_source_by_its_own_rules(tmp_path: Path) -> None:
    """Else rules for web pages would throw out code and verse, and the shares would not be those asked for."""
    tried("mixture", tmp_path)
    rows = pa.concat_tables(map(pq.read_table, (tmp_path / "documents").glob("*.parquet"))).to_pylist()
    with gzip.open(SAMPLES / "code.jsonl.gz", "rt", encoding="utf-8") as file:
        code = {row["url"]: row["text"] for row in map(json.loads, file)}
    kept = [row for row in rows if row["source"] == "code"]
    assert len(kept) == RECIPES["mixture"].limit
    assert sum(row["text"] == code[row["url"]] for row in kept) > 20  # the others had addresses in them
    assert all("{" not in row["text"] for row in rows if row["source"] == "web")
    assert any("{" in row["text"] for row in kept)
    tokens: Counter[str] = Counter()
    for path in (tmp_path / "shards").glob("train-*.docs.parquet"):
        for row in pq.read_table(path, columns=["source", "token_start", "token_end"]).to_pylist():
            tokens[row["source"]] += row["token_end"] - row["token_start"]
    shares = {name: tokens[name] / tokens.total() for name in tokens}
    assert shares == pytest.approx({"web": 0.7, "books": 0.2, "code": 0.1}, abs=0.05)


@pytest.mark.slow
def test_gpt2_trains_on_its_corpus(tmp_path: Path) -> None:
    """A configuration that we ship must fit the corpus that its recipe makes."""
    from trainer.config import load_config
    from trainer.run import train

    tried("gpt2-corpus", tmp_path / "run")
    path = CONFIGS / "train-gpt2-124m.yaml"
    model = load_config(path).model
    parameters = 2 * model.width + model.layers * (4 * model.width**2 + 3 * model.width * (model.hidden or 0))
    assert 123e6 < parameters + (model.vocabulary or 0) * model.width < 125e6
    small = [
        f"data.corpus={tmp_path / 'run'}", f"checkpoint.folder={tmp_path / 'model'}",
        "model.layers=1", "model.width=32",
        "model.heads=2", "model.hidden=64", "model.vocabulary=null", "sequence_length=64", "global_batch=4",
        "micro_batch=2", "steps=2", "schedule.warmup=1", "device=cpu", "threads=1", "evaluation.every=null",
        "checkpoint.every=null", "data.validation=null",
    ]  # fmt: skip
    assert train(path, small) == 0


def test_every_recipe_is_tried() -> None:
    """A recipe without a test of it would rot unseen."""
    names = {path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("train")}
    assert names - {"demo"} == set(RECIPES)
    assert all(read_recipe(CONFIGS / f"{name}.yaml").name == name for name in names)
