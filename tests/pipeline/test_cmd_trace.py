"""`corpusmill trace`: from a token to its record and the same tokens again, and from any record to its fate."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here, write_recipe

from pipeline.errors import RecipeError, UserError
from pipeline.look import clean_folder, reextract, trace
from pipeline.look.runfolder import RunFolder
from pipeline.phases import clean
from pipeline.shards import Corpus


@pytest.fixture(scope="module")
def run(demo_run: Path) -> RunFolder:
    return RunFolder(demo_run)


@pytest.fixture(scope="module")
def rows(demo_run: Path) -> list[dict[str, Any]]:
    """Every document of every shard, with its shard."""
    corpus = Corpus.open(demo_run)
    shards = [shard for split in corpus.splits for shard in corpus.shards(split)]
    return [row | {"shard": shard.name} for shard in shards for row in corpus.documents(shard).to_pylist()]


def place(row: dict[str, Any], inside: int = 0) -> str:
    return f"{row['shard']}:{row['token_start'] + inside}"


@pytest.mark.parametrize("source", ["web", "wet", "notes", "docs"])
def test_a_token_leads_to_its_record_and_back(run: RunFolder, rows: list[dict[str, Any]], source: str) -> None:
    """The promise: else what a model learnt from could not be shown, nor that nothing else was put there."""
    mine = [row for row in rows if row["source"] == source]
    for row in random.Random(5).sample(mine, 4):
        facts = trace.of_token(run, place(row, (row["token_end"] - row["token_start"]) // 2))
        assert facts["document"]["id"] == row["id"].hex()
        assert facts["document"]["url"] == row["url"]
        assert facts["again"] | {"file": Path(facts["again"]["file"]).name} == {
            "equal": True,
            "file": row["origin"]["file"],
            "other_versions": [],
        }


def test_the_text_around_a_token(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Else the token shown would not be the one asked for, or a character in several tokens be shown as rubbish."""
    model = reextract.model_of(run)
    corpus = Corpus.open(run.folder)
    chosen = [row for row in rows if row["language"] in ("zh", "ja", "en")]
    for row in random.Random(1).sample(chosen, 8):
        tokens = corpus.tokens(corpus.shard(row["shard"]))[row["token_start"] : row["token_end"] - 1]
        text = model.decode(tokens)
        for at in random.Random(2).sample(range(len(tokens)), 12):
            around = trace.around(model, np.asarray(tokens), at, boundary=False)
            assert around["token"]
            assert "".join(around.values()) in text
            ahead = model.decode(tokens[:at])
            if text.startswith(ahead):  # the token begins with a character
                assert ahead.endswith(around["before"])
                assert text[len(ahead) :].startswith(around["token"])
        last = trace.of_token(run, f"{row['shard']}:{row['token_end'] - 1}")
        assert last["token"]["boundary"]
        assert text.endswith(last["text"]["before"])
        assert (last["text"]["token"], last["text"]["after"]) == ("", "")


def test_the_command_and_its_messages(demo_run: Path, rows: list[dict[str, Any]], corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else a user would get a traceback, or another document, for a place that does not exist."""
    row = next(row for row in rows if row["url"])
    told = corpusmill("trace", demo_run, "--token", place(row, 3)).stdout
    assert row["id"].hex() in told
    assert row["url"] in told
    assert "⟦" in told
    assert "the same" in told
    for token, message in {
        f"{row['shard']}:999999999": "out of range",
        "train-9:1": row["shard"],
        "train": "SHARD:POSITION",
        f"{row['shard']}.bin:-1": "SHARD:POSITION",
    }.items():
        with pytest.raises(RecipeError, match=message):
            trace.of_token(RunFolder(demo_run), token)
    failed = corpusmill("trace", demo_run, "--token", place(row), "--doc", "00", check=False)
    assert failed.returncode == 2
    assert "exactly one" in failed.stderr


def test_tokens_that_are_not_the_records(demo_copy: Path, rows: list[dict[str, Any]], corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else a shard that was tampered with would be shown as if it came from the crawl."""
    row = rows[0]
    corpus = Corpus.open(demo_copy)
    path = corpus.shard(row["shard"]).path(".bin")
    tokens = np.memmap(path, corpus.dtype, "r+")
    tokens[row["token_start"] + 7] = (int(tokens[row["token_start"] + 7]) + 1) % corpus.vocabulary
    tokens.flush()
    done = corpusmill("trace", demo_copy, "--token", place(row), "--json", check=False)
    assert done.returncode == 4
    again = json.loads(done.stdout)["again"]
    assert again["equal"] is False
    assert "token 7" in again["why"]


def test_other_versions_are_named(run: RunFolder, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a difference that a newer library makes would look like a fault of the run."""
    now = clean.made_with(run.context)
    now["packages"] = now["packages"] | {"pyarrow": "99.0"}
    now["stages"][1] = now["stages"][1] | {"version": 99}
    monkeypatch.setattr(clean, "made_with", lambda context: now)
    facts = trace.of_token(run, place(rows[0]))
    told = "; ".join(facts["again"]["other_versions"])
    assert "pyarrow was" in told
    assert "is 99.0" in told
    assert "stage normalize was version" in told
    assert facts["again"]["equal"] is True


def test_a_kept_document(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Else a document could not be found in the shards, in all its copies, to be taken out."""
    many = [row["id"] for row in rows]
    wanted = next(one for one in many if many.count(one) > 1)
    facts = trace.of_document(run, wanted.hex()[:9].upper(), None)
    assert facts["id"] == wanted.hex()
    assert facts["fate"] == "kept"
    mine = [row for row in rows if row["id"] == wanted]
    assert [(c["shard"], c["copy"], c["token_start"], c["token_end"]) for c in facts["copies"]] == [
        (row["shard"], row["copy"], row["token_start"], row["token_end"]) for row in mine
    ]
    assert (run.folder / facts["documents"][0]["part"]).exists()


def test_a_dropped_document(run: RunFolder, demo_run: Path) -> None:
    """Else nobody could be told why a page is not in the corpus, and what is there in its place."""
    lost = [row for path in (demo_run / "dropped").glob("dedup-*") for row in pq.read_table(path).to_pylist()]
    other = next(row for row in lost if row["survivor"] != row["id"])
    facts = trace.of_document(run, other["id"].hex(), None)
    assert (facts["fate"], facts["documents"], facts["copies"]) == ("dropped", [], [])
    assert facts["dropped"][0]["survivor"] == other["survivor"].hex()
    back = trace.of_document(run, other["survivor"].hex(), None)
    assert other["id"].hex() in [one["id"] for one in back["beat"]]
    twice = next(row for row in lost if row["survivor"] == row["id"])
    facts = trace.of_document(run, twice["id"].hex(), None)
    assert facts["fate"] == "kept"
    assert facts["dropped"][0]["reason"] == "dedup.same_record"


def test_ids_that_are_not_there(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Else one wrong digit would end the search."""
    good = rows[0]["id"].hex()
    typo = good[:20] + ("0" if good[20] != "0" else "1") + good[21:]
    with pytest.raises(RecipeError, match=f"Did you mean {good}"):
        trace.of_document(run, typo, None)
    with pytest.raises(RecipeError, match="ids begin so"):
        trace.of_document(run, good[0], None)
    with pytest.raises(RecipeError, match="hex digits"):
        trace.of_document(run, "xyz", None)


def test_a_url(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Else a page could be found only by spelling its address as the crawler did."""
    row = next(row for row in rows if row["source"] == "web" and row["url"].startswith("https://www."))
    other = row["url"].replace("https://www.", "HTTP://") + "?utm_source=x#top"
    exact, loose = trace.of_url(run, row["url"]), trace.of_url(run, other)
    assert [one["exact"] for one in exact if one["fate"] == "kept"] == [True]
    assert row["id"].hex() in [one["id"] for one in exact]
    assert [one["id"] for one in loose] == [one["id"] for one in exact]
    assert {one["exact"] for one in loose} == {False}
    gone = trace.of_url(run, "https://odd.example.org/gone.html")
    assert [one["reason"] for one in gone if one["fate"] == "dropped"] == ["read.http_status"]
    with pytest.raises(RecipeError, match=r"Did you mean https://odd\.example\.org/gone\.html"):
        trace.of_url(run, "https://odd.example.org/gon.html")
    with pytest.raises(RecipeError, match=r"none of host nosuch\.example"):
        trace.of_url(run, "https://nosuch.example/")


def test_crawl_files_that_moved_changed_or_went(tmp_path: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else tidying up the crawl's folder would break every trace, or a changed file pass for the old one."""
    recipe = write_recipe(tmp_path)
    out = tmp_path / "run"
    run_here(recipe, out)
    corpus = Corpus.open(out)
    shard = corpus.shards("train")[0]
    row = next(row for row in corpus.documents(shard).to_pylist() if row["source"] == "wet")
    token = f"{shard.name}:{row['token_start']}"

    old = recipe.parent / "crawl" / "a.warc.wet.gz"
    new = old.rename(old.with_name("renamed.warc.wet.gz"))
    facts = trace.of_token(RunFolder(out), token)
    assert facts["again"]["equal"] is None
    assert "is not there" in facts["again"]["why"]
    assert corpusmill("trace", out, "--token", token, check=False).returncode == 1
    assert run_here(recipe, out) == {"index": 1}
    facts = trace.of_token(RunFolder(out), token)
    assert facts["again"] == {"equal": True, "file": str(new), "other_versions": []}

    data = bytearray(new.read_bytes())
    data[row["origin"]["offset"] : row["origin"]["offset"] + 200] = bytes(200)
    new.write_bytes(data)
    facts = trace.of_token(RunFolder(out), token)
    assert facts["again"]["equal"] is False
    assert "changed since" in facts["again"]["why"]

    shutil.rmtree(recipe.parent / "crawl")
    clean_folder.carry_out(clean_folder.plan(out, ["shards"]))
    assert trace.of_document(RunFolder(out), row["id"].hex(), None)["fate"] == "kept"
    with pytest.raises(RecipeError, match="took away documents and dropped"):
        trace.of_document(RunFolder(out), "f" * 32, None)
    clean_folder.carry_out(clean_folder.plan(out, ["documents"]))
    with pytest.raises(UserError, match="took the shards"):
        trace.of_token(RunFolder(out), token)


def test_training_steps(demo_copy: Path, tmp_path: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else a loss spike could not be followed to its pages, nor a page to the steps that it spoilt."""
    pytest.importorskip("torch")
    config = {
        "data": {"corpus": str(demo_copy), "split": "train", "validation": None},
        "model": {"layers": 1, "width": 16, "heads": 1},
        "sequence_length": 64,
        "global_batch": 2,
        "steps": 3,
        "schedule": {"warmup": 1},
        "checkpoint": {"folder": str(demo_copy / "train"), "every": 3},
        "device": "cpu",
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    failed = corpusmill("trace", demo_copy, "--step", 2, check=False)
    assert failed.returncode == 2
    assert "--checkpoint" in failed.stderr
    corpusmill("train", path, "--set", "steps=2", "--set", "checkpoint.every=2")
    run = RunFolder(demo_copy)
    folder = trace.checkpoint_of(run, None, needed=True)
    assert folder == demo_copy / "train"
    uses = trace.of_step(run, 2, folder)
    assert sum(use["token_end"] - use["token_start"] for use in uses) == 2 * 64
    urls = {row["id"].hex(): row["url"] for p in run.parts("documents") for row in pq.read_table(p).to_pylist()}
    assert all(urls[use["document"]] == use["url"] for use in uses)
    facts = trace.of_document(run, uses[0]["document"], folder)
    assert uses[0] in facts["steps"]
    told = corpusmill("trace", demo_copy, "--step", 2).stdout
    assert all(use["document"] in told for use in uses)
    with pytest.raises(RecipeError, match="step 9"):
        trace.of_step(run, 9, folder)
    unused = next(
        one for one in urls if one not in {u["document"] for n in (1, 2) for u in trace.of_step(run, n, folder)}
    )
    assert trace.of_document(run, unused, folder)["steps"] == []
