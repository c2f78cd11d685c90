"""Metadata before texts: tokens that a model is conditioned on and a trainer can leave out of its loss."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_run import run_here, write_recipe

from pipeline import token_parts
from pipeline.errors import RecipeError
from pipeline.look import trace
from pipeline.look.overview import overview
from pipeline.look.runfolder import RunFolder
from pipeline.prefix import check, hosts_of, prefixes
from pipeline.shards import Corpus
from pipeline.tokenizers import open_folder


def test_a_prefix_is_lines_of_what_is_known() -> None:
    """A model would be told `None`, or a value could pass for another line, or for the text."""
    batch = pa.RecordBatch.from_pydict(
        {
            "url": ["https://A.example/x", None, "mailto:x"],
            "topic": ["a\nb: c", "", None],
            "score": pa.array([0.25, None, 1.0], pa.float32()),
            "date": pa.array([datetime(2024, 5, 3, 7, tzinfo=UTC), None, None], pa.timestamp("s", tz="UTC")),
        }
    )
    found = prefixes(batch, ["host", "topic", "date", "score"])
    assert found == ["host: a.example\ntopic: a b: c\ndate: 2024-05-03\nscore: 0.25\n\n", "", "score: 1\n\n"]
    with pytest.raises(RecipeError, match=r"'topics' is no column .* Did you mean 'topic'"):
        check(["host", "topics"], batch.schema)
    with pytest.raises(RecipeError, match="'text' is no column"):
        check(["text"], batch.schema)


def test_shards_hold_prefixes_and_say_where(tmp_path: Path) -> None:
    """A trainer would learn to write hosts, and a trace would call an untouched shard damaged."""
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    run_here(recipe, out)
    before = {}
    for path in RunFolder(out).parts("tokens"):
        if path.suffix == ".arrow":
            tokens = token_parts.tokens_of(path, np.dtype("<u2"))
            for row in token_parts.opened(path).to_pylist():
                assert row["prefix_tokens"] == 0
                before[row["id"]] = tokens[row["start"] :][: row["n_tokens"]].tolist()
    settings = "tokenizer.prefix={columns: [host, source]}"
    done = run_here(recipe, out, settings)
    assert "tokenizer" not in done
    assert "documents" not in done
    run, corpus = RunFolder(out), Corpus.open(out)
    model = open_folder(out)
    (shard, *_) = corpus.shards("train")
    tokens = corpus.tokens(shard)
    rows = corpus.documents(shard).to_pylist()
    for row in rows:
        mine = tokens[row["token_start"] : row["token_end"] - 1]
        head, text = mine[: row["prefix_tokens"]], mine[row["prefix_tokens"] :]
        host = hosts_of(pa.array([row["url"]], pa.string()))[0].as_py()
        wanted = (f"host: {host}\n" if host else "") + f"source: {row['source']}\n\n"
        assert model.decode(head) == wanted
        assert text.tolist() == before[row["id"]]
    assert any(row["url"] for row in rows)
    again = trace.of_token(run, f"{shard.name}:{rows[0]['token_start']}")["again"]
    assert again["equal"], again
    assert overview(out)["tokens"]["prefix"] > len(rows)


def test_a_prefix_of_no_column_stops_before_work(tmp_path: Path, corpusmill: Any) -> None:
    """A run of days would end at its last phase, or the prefix be silently left out."""
    recipe = write_recipe(tmp_path)
    change = "tokenizer.prefix={columns: [topic]}"
    done = corpusmill("run", recipe, "--out", tmp_path / "run", "--set", change, "--workers", 1, check=False)
    assert done.returncode == 2
    assert "tokenizer.prefix.columns: 'topic' is no column of the documents" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("clean/*"))
