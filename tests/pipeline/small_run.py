"""A small recipe of plain texts, whose runs take seconds: for tests that need several of them."""

from __future__ import annotations

import gzip
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.nursery import Nursery
from pipeline.recipe import read_recipe
from pipeline.runner import Order, run
from pipeline.work import Context, Trial

CRAWL = Path(__file__).resolve().parent.parent / "data" / "crawl"


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Copies a few inputs into `folder/crawl`, and writes a recipe over them: its path."""
    crawl = folder / "crawl"
    crawl.mkdir(parents=True)
    shutil.copy(CRAWL / "wet.warc.wet.gz", crawl / "a.warc.wet.gz")
    shutil.copy(CRAWL / "table.parquet", crawl / "table.parquet")
    with gzip.open(CRAWL / "notes.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [line for line in file if len(line) < 4_000][:60]
    for number in range(2):
        (crawl / f"notes-{number}.jsonl").write_text("".join(lines[number::2]), "utf-8")
    recipe: dict[str, Any] = {
        "name": "small",
        "inputs": [
            {"source": "notes", "path": "crawl/notes-*.jsonl", "format": "jsonl"},
            {"source": "wet", "path": "crawl/*.warc.wet.gz", "format": "wet"},
            {
                "source": "docs",
                "path": "crawl/table.parquet",
                "format": "parquet",
                "fields": {"text": "body", "url": "link", "title": "headline", "date": "published"},
            },
        ],
        "stages": [{"normalize": {}}, {"gopher_quality": {"min_words": 30}}],
        "dedup": {"exact": ["url", "text"], "near": {}},
        "tokenizer": {"train": {"vocabulary": 2000, "sample_bytes": 150_000}},
        "mixture": {"shares": {"notes": 0.3, "wet": 0.3, "docs": 0.4}},
        "shards": {"validation": 0.3, "tokens_per_shard": 60_000},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(recipe | changes), "utf-8")
    return path


def contents(out: Path, *folders: str) -> dict[str, bytes]:
    """The files in these part folders, by name."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in folders
        for path in sorted((out / folder).rglob("*"))
        if path.is_file()
    }


@contextmanager
def a_nursery(folder: Path) -> Iterator[Nursery]:
    """The nursery of a run with hardly any stages."""
    path = folder / "one.yaml"
    (folder / "a.jsonl").write_text('{"text": "a"}\n', "utf-8")
    path.write_text(
        yaml.safe_dump({"inputs": [{"source": "a", "path": "a.jsonl", "format": "jsonl"}], "stages": []}), "utf-8"
    )
    nursery = Nursery(Context(folder / "out", folder, read_recipe(path)))
    try:
        assert nursery.problems() == []
        yield nursery
    finally:
        nursery.close()


def run_here(
    recipe: Path, out: Path, *changes: str, trial: Trial | None = None, until: str | None = None
) -> dict[str, int]:
    """`corpusmill run`, in this process and without its driver: units done by phase, those with none left out."""
    context = Context(out, recipe.parent, read_recipe(recipe, list(changes)), trial or Trial())
    ledger = context.ledger
    ledger.folder.mkdir(parents=True, exist_ok=True)
    ledger.create(context.recipe.name)
    (out / "recipe.yaml").write_text(yaml.safe_dump(context.recipe.model_dump(mode="json")), "utf-8")
    (ledger.folder / "context.json").write_text(json.dumps(context.to_json()), "utf-8")
    desk = ledger.folder / "runs" / uuid.uuid4().hex
    desk.mkdir(parents=True)
    return {phase: units for phase, units in run(Order(context, 1, "local", [], desk, until=until)).items() if units}
