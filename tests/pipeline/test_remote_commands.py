"""Commands over a store: a run by several worker processes, dry run, try, and what cannot be reached."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import ENVIRONMENT, Flaky, upload
from small_run import CRAWL

from pipeline.app import console
from pipeline.errors import RecipeError
from pipeline.look import estimate
from pipeline.look.overview import overview
from pipeline.look.try_page import try_page
from pipeline.recipe import read_recipe
from pipeline.shards import Corpus
from pipeline.sources import input_files
from pipeline.work import Context

Corpusmill = Callable[..., Any]


def test_every_command_works_over_a_store_that_fails_at_times(
    s3: Flaky,
    tmp_path: Path,
    corpusmill: Corpusmill,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What works over files must work over a store: workers are processes, and each opens its own connections."""
    (tmp_path / "in").mkdir()
    shutil.copy(CRAWL / "wet.warc.wet.gz", tmp_path / "in" / "a.warc.wet.gz")
    shutil.copy(CRAWL / "table.parquet", tmp_path / "in" / "table.parquet")
    upload(s3.where, "commands", tmp_path / "in")
    fields = {"text": "body", "url": "link", "title": "headline"}
    data = {
        "name": "commands",
        "inputs": [
            {"source": "wet", "path": "s3://commands/*.warc.wet.gz", "format": "wet"},
            {"source": "docs", "path": "s3://commands/table.parquet", "format": "parquet", "fields": fields},
        ],
        "stages": [{"normalize": {}}, {"gopher_quality": {"min_words": 30}}],
        "tokenizer": {"train": {"vocabulary": 800, "sample_bytes": 50_000}},
        "shards": {"validation": 0},
    }
    recipe = tmp_path / "commands.yaml"
    recipe.write_text(yaml.safe_dump(data))
    env = ENVIRONMENT | {"AWS_ENDPOINT_URL": s3.where}
    out = tmp_path / "out"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.where)
    s3.reset(s3.where, every=10)
    context = Context(out, tmp_path, read_recipe(recipe))
    estimate.dry_run(context, 1, console())
    assert "source docs: 1 files" in capsys.readouterr().out
    assert not out.exists()
    corpusmill("run", recipe, "--out", out, "--workers", 2, env=env)
    assert s3.failed > 0
    facts = overview(out)
    assert facts["complete"]
    assert facts["records"]["balanced"]
    assert {item["path"] for item in facts["inputs"]} == {"s3://commands/a.warc.wet.gz", "s3://commands/table.parquet"}
    corpus = Corpus.open(out)
    url = corpus.documents(corpus.shards("train")[0]).to_pylist()[0]["url"]
    tried = try_page(context, url, None, None)
    assert (tried.dropped, tried.url) == (None, url)
    assert tried.origin is not None
    assert tried.origin["path"].startswith("s3://commands/")
    estimate.dry_run(context, 1, console())
    assert "all of it is done" in capsys.readouterr().out
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [path for path in out.rglob("*") if path.is_file() and secret in path.read_bytes()]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("s3://no-such-bucket/*.jsonl", r"no file matches s3://no-such-bucket/\*\.jsonl"),
        ("s3://no-such-bucket/a.jsonl", r"s3://no-such-bucket/a\.jsonl cannot be read: HTTP 404"),
        ("http://127.0.0.1:9/a.jsonl", "cannot be read: ClientConnectorError"),
    ],
)
def test_what_cannot_be_reached_is_said_before_any_work(
    path: str, why: str, s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback of a library for a slip in an address."""
    monkeypatch.setenv("CORPUSMILL_TRIES", "2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.where)
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(yaml.safe_dump({"name": "wrong", "inputs": [{"source": "x", "path": path, "format": "jsonl"}]}))
    with pytest.raises(RecipeError, match=why):
        input_files(read_recipe(recipe))
