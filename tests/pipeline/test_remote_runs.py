"""Runs over inputs in a store: the same bytes as over local files, whatever the store does."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import ENVIRONMENT, Flaky, upload
from small_run import CRAWL, contents, run_here, write_recipe

from pipeline.look import trace
from pipeline.look.overview import overview
from pipeline.look.runfolder import RunFolder
from pipeline.shards import Corpus
from pipeline.storage import remote

buckets = (f"crawl-{number}" for number in itertools.count())


def crawl(folder: Path) -> Path:
    """A recipe over local files of four formats, one of them damaged, in `folder/crawl`."""
    path = write_recipe(folder)
    damaged = (CRAWL / "damaged.warc.gz").read_bytes()
    (folder / "crawl" / "damaged.warc.gz").write_bytes(
        damaged[260_763:350_355]  # a zeroed member in it
        + b"".join(_member(number) for number in range(24))
    )
    for plain in (folder / "crawl").glob("notes-*.jsonl"):
        plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
    recipe = yaml.safe_load(path.read_text())
    recipe["inputs"][0]["path"] = "crawl/notes-*.jsonl.gz"
    recipe["inputs"].append({"source": "web", "path": "crawl/damaged.warc.gz", "format": "warc"})
    recipe["stages"] = [{"extract": {"engine": "resiliparse"}}, *recipe["stages"]]
    recipe["mixture"] = {}
    recipe["dedup"] = {"exact": ["url"]}
    recipe["tokenizer"] = {"train": {"vocabulary": 800, "sample_bytes": 50_000}}
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe, and the folder of its run over local files."""
    folder = tmp_path_factory.mktemp("local")
    recipe = crawl(folder)
    run_here(recipe, folder / "out")
    return recipe, folder / "out"


def elsewhere(recipe: Path, folder: Path, root: str, **more: Any) -> Path:
    """The recipe with its inputs at another address."""
    data = yaml.safe_load(recipe.read_text()) | more
    for item in data["inputs"]:
        item["path"] = item["path"].replace("crawl/", root + "/")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    return path


def test_run_over_s3_that_fails_one_request_in_twenty_gives_the_bytes_of_the_local_run(
    local: tuple[Path, Path], s3: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that throttles and drops connections, as all do, must change nothing but the time a run takes."""
    recipe, whole = local
    bucket = next(buckets)
    upload(s3.where, bucket, recipe.parent / "crawl")
    monkeypatch.setattr(remote, "FIRST_BLOCK", 4 << 10)
    monkeypatch.setattr(remote, "LARGEST_BLOCK", 16 << 10)
    s3.reset(s3.where, every=20)
    there = elsewhere(recipe, tmp_path, f"s3://{bucket}", storage={"s3": {"endpoint_url": s3.where}})
    run_here(there, tmp_path / "out")
    assert s3.failed > 5
    assert contents(tmp_path / "out", "shards") == contents(whole, "shards")
    theirs, ours = overview(whole), overview(tmp_path / "out")
    for name in ("records", "reasons", "sources", "languages", "splits"):
        assert ours[name] == theirs[name], name
    assert ours["records"]["balanced"]
    assert [gap["offset"] for gap in ours["gaps"]] == [gap["offset"] for gap in theirs["gaps"]] != []
    _trace(tmp_path / "out", f"s3://{bucket}/damaged.warc.gz", s3)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes(), path


def _trace(out: Path, address: str, s3: Flaky) -> None:
    """Looking at one token must not download the whole of a crawl's file."""
    corpus = Corpus.open(out)
    place = next(
        f"{shard.name}:{row['token_start']}"
        for split in corpus.splits
        for shard in corpus.shards(split)
        for row in corpus.documents(shard).to_pylist()
        if row["source"] == "web"
    )
    s3.reset(s3.where, every=20)
    facts = trace.of_token(RunFolder(out), place)
    assert facts["again"] == {"equal": True, "file": address, "other_versions": []}
    assert 0 < s3.sent < remote.facts(address).size / 2


def _member(number: int) -> bytes:
    body = bytes((number * 7 + place * 131 + place * place) % 251 for place in range(60_000))
    head = f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Record-ID: <urn:x:{number}>\r\nContent-Length: {len(body)}\r\n\r\n"
    return gzip.compress(head.encode() + body + b"\r\n\r\n", 0, mtime=0)
