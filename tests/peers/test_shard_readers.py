"""Shards and exports, read by readers that we did not write: Megatron-LM, NumPy, datatrove, MosaicML, Hugging Face."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "trainer"))

from small_corpus import grouped_lengths, small_lengths, write_corpus

from pipeline.cli import app
from pipeline.errors import UserError
from pipeline.export import exporting, huggingface, mds
from pipeline.shards import Corpus, Shard
from trainer.datasets import StreamingDataset

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".peers"
SHARES = {"web": 0.5, "books": 0.3, "code": 0.2}


def documents(corpus: Corpus, shards: list[Shard]) -> list[list[int]]:
    """The documents of shards, cut by their index."""
    found = []
    for shard in shards:
        tokens, ends = corpus.tokens(shard), np.cumsum(corpus.lengths(shard))
        found += [part.tolist() for part in np.split(tokens, ends[:-1])]
    return found


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    """A mixed corpus of uint16, one of int32, and one by source."""
    folder = tmp_path_factory.mktemp("readers")
    return {
        "uint16": Corpus.open(write_corpus(folder / "uint16", small_lengths())),
        "int32": Corpus.open(write_corpus(folder / "int32", small_lengths(), vocabulary=100_000)),
        "grouped": Corpus.open(write_corpus(folder / "grouped", grouped_lengths(), shares=SHARES)),
    }


@pytest.fixture(scope="module")
def exports(corpora: dict[str, Corpus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports FORMAT/CORPUS."""
    out = tmp_path_factory.mktemp("exports")
    for name, corpus in corpora.items():
        for to in ("mds", "datatrove", "huggingface"):
            (out / to).mkdir(exist_ok=True)
            run("export", corpus.folder, "--to", to, "--out", out / to / name)
    run("export", corpora["uint16"].folder, "--to", "mds", "--out", out / "fixed", "--sequence-length", "300")
    return out


@pytest.fixture(scope="module")
def read(corpora: dict[str, Corpus], exports: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the others read, by reader and case."""
    if not (PEERS / "installed").exists():
        pytest.skip("no .peers: `make peers` gets the other readers")
    folder = tmp_path_factory.mktemp("read")
    cases = {
        "megatron": {
            f"{name}/{shard.name}": [str(shard.stem)]
            for name in ("uint16", "int32") for shard in corpora[name].shards("train")
        },
        "datatrove": {
            name: [str(exports / "datatrove" / name / "train"), corpora[name].dtype.itemsize]
            for name in ("uint16", "int32")
        },
        "mds": {
            **{name: [str(exports / "mds" / name), "train", str(folder / name)] for name in ("uint16", "int32")},
            "grouped": [str(exports / "mds" / "grouped" / "code"), "train", str(folder / "code")],
            "fixed": [str(exports / "fixed"), "train", str(folder / "fixed")],
        },
        "torchdata": {"grouped": [str(corpora["grouped"].folder)]},
    }  # fmt: skip
    paths = os.pathsep.join([str(PEERS), str(ROOT), str(ROOT / "tests" / "peers")])
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("shard_readers.py")), json.dumps(cases), str(folder / "found")],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads((folder / "found").read_text()) | {"written": folder}


@pytest.mark.parametrize("name", ["uint16", "int32"])
def test_megatron_reads_shards_as_they_stand(read: dict[str, Any], corpora: dict[str, Corpus], name: str) -> None:
    """Else Megatron-LM and NeMo would need a conversion, or train on other tokens."""
    for shard in corpora[name].shards("train"):
        found, expected = read["megatron"][f"{name}/{shard.name}"], documents(corpora[name], [shard])
        assert found["dtype"] == name
        assert found["documents-True"] == found["documents-False"] == expected
        assert found["boundaries"] == list(range(len(expected) + 1))
        assert found["lengths"] == [len(document) for document in expected]
        assert found["middle-True"] == found["middle-False"] == expected[1][2:7]


@pytest.mark.parametrize("name", ["uint16", "int32"])
def test_datatrove_reads_its_export(read: dict[str, Any], corpora: dict[str, Corpus], exports: Path, name: str) -> None:
    """Else Nanotron and datatrove's loaders would see other tokens, or documents that run into one another."""
    tokens, positions = [], []
    for shard in corpora[name].shards("train"):
        whole = shard.tokens // 16 * 16  # their windows leave out what is behind the last whole one
        tokens += corpora[name].tokens(shard)[:whole].reshape(-1, 16).tolist()
        places = np.concatenate([np.arange(length) for length in corpora[name].lengths(shard)])[:whole].reshape(-1, 16)
        firsts = places[:, 0].copy()
        for row, first in zip(places, firsts, strict=True):  # theirs are counted from the window's beginning
            behind = np.flatnonzero(row == 0)
            row[: behind[0] if len(behind) else 16] -= first
        positions += places.tolist()
        metadata = exports / "datatrove" / name / "train" / f"{shard.name}.ds.metadata"
        head, count, _ = metadata.read_text().split("\n")
        assert head.endswith(f"|{corpora[name].dtype.itemsize}")
        assert int(count) == shard.tokens
    assert read["datatrove"][name]["tokens"] == tokens
    assert read["datatrove"][name]["positions"] == positions


@pytest.mark.parametrize("name", ["uint16", "int32", "grouped"])
def test_mosaicml_reads_its_export(read: dict[str, Any], corpora: dict[str, Corpus], name: str) -> None:
    """Else Composer and llm-foundry would see other tokens, or no URL to trace them by."""
    corpus = corpora[name]
    shards = [shard for shard in corpus.shards("train") if name != "grouped" or shard.group == "code"]
    found = read["mds"][name]
    assert found["tokens"] == documents(corpus, shards)
    assert found["dtypes"] == [corpus.dtype.name]
    rows = [row for shard in shards for row in corpus.documents(shard, ["id", "source", "url"]).to_pylist()]
    assert found["texts"] == [row | {"id": row["id"].hex()} for row in rows]


@pytest.mark.parametrize("name", ["uint16", "fixed"])
def test_mds_files_are_those_of_mosaicml(read: dict[str, Any], exports: Path, name: str) -> None:
    """Else a reader of theirs that looks closer than the one of today would stumble."""
    ours = exports / "fixed" / "train" if name == "fixed" else exports / "mds" / name / "train"
    theirs = read["written"] / name
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert all(path.read_bytes() == (theirs / path.name).read_bytes() for path in ours.glob("*.mds"))
    assert json.loads((ours / "index.json").read_text()) == json.loads((theirs / "index.json").read_text())


def test_torchdata_resumes_our_stream(read: dict[str, Any], corpora: dict[str, Corpus]) -> None:
    """Else loops that keep their place with StatefulDataLoader, as torchtitan's, would repeat or lose data."""
    stream = StreamingDataset(corpora["grouped"].folder, sequence_length=32, global_batch=4, seed=3, steps=12)
    expected = [batch["tokens"].tolist() for batch in stream]
    assert read["torchdata"]["grouped"] == {"workers-0": expected, "workers-2": expected}


def test_mds_of_fixed_length_is_the_stream_of_tokens(read: dict[str, Any], corpora: dict[str, Corpus]) -> None:
    """Else llm-foundry, which pads nothing, could not train on an export."""
    stream = np.concatenate([corpora["uint16"].tokens(shard) for shard in corpora["uint16"].shards("train")])
    whole = len(stream) // 300 * 300
    assert read["mds"]["fixed"]["tokens"] == stream[:whole].reshape(-1, 300).tolist()


def test_mds_begins_a_new_shard_at_the_limit(
    corpora: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an export would be one file of a terabyte, in memory."""
    monkeypatch.setattr(mds, "SIZE_LIMIT", 2000)
    exporting.export(corpora["uint16"], tmp_path / "out", "train", mds.write)
    index = json.loads((tmp_path / "out" / "train" / "index.json").read_text())
    assert len(index["shards"]) > 3
    assert all(shard["raw_data"]["bytes"] <= 2000 for shard in index["shards"])
    assert sum(shard["samples"] for shard in index["shards"]) == 120


@pytest.mark.parametrize("name", ["uint16", "int32"])
def test_memmap_reads_the_tokens_alone(corpora: dict[str, Corpus], name: str) -> None:
    """Else nanoGPT and its descendants, which know a .bin and nothing else, could not train on it."""
    corpus = corpora[name]
    shard = corpus.shards("train")[0]
    data = np.memmap(f"{shard.stem}.bin", dtype=getattr(np, name), mode="r")
    expected = [token for document in documents(corpus, [shard]) for token in document]
    assert data.tolist() == expected
    x, y = data[7 : 7 + 64].astype(np.int64), data[8 : 8 + 64].astype(np.int64)  # nanoGPT's get_batch
    assert (x[1:] == y[:-1]).all()


@pytest.fixture
def quiet_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Hugging Face's `datasets`, with a cache of the test's own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


def test_hugging_face_reads_documents_and_token_lists(
    corpora: dict[str, Corpus], exports: Path, quiet_datasets: Any, tmp_path: Path
) -> None:
    """Else a corpus could not be looked at, or trained on, with what most people have."""
    corpus = corpora["uint16"]
    files = {split: [str(shard.path(".docs.parquet")) for shard in corpus.shards(split)] for split in corpus.splits}
    rows = quiet_datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    for split in corpus.splits:
        expected = [row for shard in corpus.shards(split) for row in corpus.documents(shard).to_pylist()]
        assert rows[split].to_list() == expected
    for name in ("uint16", "int32"):
        corpus = corpora[name]
        lists = quiet_datasets.load_dataset(str(exports / "huggingface" / name), cache_dir=str(tmp_path))
        assert set(lists) == {"train", "validation"}
        assert lists["train"].features["tokens"].feature.dtype == name
        assert lists["train"]["tokens"][:] == documents(corpus, corpus.shards("train"))
        ids = [row["id"].hex() for shard in corpus.shards("train") for row in corpus.documents(shard).to_pylist()]
        assert lists["train"]["id"][:] == ids
    corpus = corpora["grouped"]
    books = quiet_datasets.load_dataset(
        str(exports / "huggingface" / "grouped"), "books", split="train", cache_dir=str(tmp_path), streaming=True
    )
    own = [shard for shard in corpus.shards("train") if shard.group == "books"]
    assert [row["tokens"] for row in books] == documents(corpus, own)


def test_megatron_is_told_of_weights(corpora: dict[str, Corpus]) -> None:
    """Else a blend would read small shards as often as large ones, or forget the mixture."""
    corpus = corpora["uint16"]
    lines = run("export", corpus.folder, "--to", "megatron").splitlines()
    shards = corpus.shards("train")
    words = [word for shard in shards for word in (str(shard.tokens), str(shard.stem.resolve()))]
    assert shlex.split(lines[0]) == ["--train-data-path", *words]
    assert shlex.split(lines[1])[:2] == ["--valid-data-path", str(corpus.shards("validation")[0].tokens)]
    assert shlex.split(run("export", corpus.folder, "--to", "megatron", "--split", "train")) == ["--data-path", *words]

    grouped = corpora["grouped"]
    found = shlex.split(run("export", grouped.folder, "--to", "megatron").splitlines()[0])
    weights = dict(zip(found[2::2], map(float, found[1::2]), strict=True))
    by_stem = {str(shard.stem.resolve()): shard for shard in grouped.shards("train")}
    assert set(weights) == set(by_stem)
    for group, share in SHARES.items():
        own = {stem: shard for stem, shard in by_stem.items() if shard.group == group}
        assert sum(weights[stem] for stem in own) == pytest.approx(share, rel=1e-4)
        for stem, shard in own.items():
            tokens = sum(other.tokens for other in own.values())
            assert weights[stem] == pytest.approx(share * shard.tokens / tokens, rel=1e-4)


def test_an_export_is_whole_or_not_there(
    corpora: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk would leave half an export that looks like one, or an export would overwrite another."""
    out = tmp_path / "out"

    def full(corpus: Corpus, part: exporting.Part, folder: Path) -> None:
        (folder / "some").write_text("some")
        if part.split == "validation":
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        exporting.export(corpora["uint16"], out, None, full)
    assert list(tmp_path.iterdir()) == []
    exporting.export(corpora["uint16"], out, "validation", huggingface.write, huggingface.card)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "validation"]
    result = CliRunner().invoke(app, ["export", str(corpora["uint16"].folder), "--to", "mds", "--out", str(out)])
    assert result.exit_code != 0
    assert "is there already" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
