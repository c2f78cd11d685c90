"""The index of deduplication under kills, and with two runs at once."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import promise_helpers as help
import pyarrow.parquet as pq
import pytest

from pipeline.index import HIDDEN, Index

KILLS = [
    {"match": r"memory/index\.json$"},  # it becomes an index
    {"match": r"ledger/index\.json$", "nth": 2},  # the run notes what it is about to add
    {"match": r"memory/second\."},  # the new crawl's folder takes its place
    {"match": r"memory/second\.", "moment": "after"},
    {"match": r"memory/index\.json$", "nth": 2, "moment": "after"},
]


def crawl(folder: Path, name: str, first: int) -> Path:
    """A crawl of 40 pages and the recipe over it; every tenth page is as in the crawl that begins at 0."""
    lines = []
    for page in range(40):
        number = page if page % 10 == 0 else first + page
        words = [f"word{value}" for value in np.random.default_rng(number).integers(0, 9999, 80).tolist()]
        lines.append(json.dumps({"url": f"https://{name}.org/{page}", "text": " ".join(words)}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    data: dict[str, Any] = {
        "name": name,
        "inputs": [{"source": "web", "path": str(folder / f"{name}.jsonl"), "format": "jsonl"}],
        "dedup": {"exact": ["text"], "near": {"threshold": 0.8, "permutations": 32}, "index": "memory"},
    }
    return help.write_recipe(folder / f"{name}.yaml", data)


def generations(folder: Path) -> list[tuple[str, str]]:
    found = Index.read(folder / "memory")
    assert found is not None
    assert found.damage() == []
    return [(one.name, one.digest) for one in found.generations]


def kept(out: Path) -> list[str]:
    parts = sorted((out / "documents").glob("*.parquet"))
    return sorted(url for part in parts for url in pq.read_table(part, columns=["url"]).column(0).to_pylist())


@pytest.mark.slow(minutes=2)
def test_killed_while_the_index_grows(tmp_path: Path) -> None:
    """Else a power cut would leave a crawl in the index by half, or twice: the next one loses documents to nothing."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        for name, first in (("first", 0), ("second", 1000)):
            crawl(folder, name, first)
        status, output = help.run("run", folder / "first.yaml", "--out", folder / "out-first", "--workers", 1)
        assert status == 0, output
    status, output = help.run("run", whole / "second.yaml", "--out", whole / "out-second", "--workers", 1)
    assert status == 0, output
    assert len(kept(whole / "out-second")) == 36, "four pages are in the first crawl"
    for number, kill in enumerate(KILLS):
        order = kill | {"flag": str(tmp_path / f"killed-{number}")}
        arguments = ("run", killed / "second.yaml", "--out", killed / "out-second", "--workers", 1)
        status, output = help.run(*arguments, kill=order)
        assert status == -signal.SIGKILL, f"{kill} was not met:\n{output}"
    status, output = help.run("run", killed / "second.yaml", "--out", killed / "out-second", "--workers", 1)
    assert status == 0, output
    assert generations(killed) == generations(whole)
    assert kept(killed / "out-second") == kept(whole / "out-second")
    assert [path.name for path in (killed / "memory" / HIDDEN).iterdir()] == ["lock"]
    assert len(list((killed / "memory").iterdir())) == 4, "two crawls, the index, what is hidden"


@pytest.mark.slow
def test_two_runs_add_to_one_index(tmp_path: Path) -> None:
    """Else two crawls that end at once would each miss what the other holds, and their duplicates would both stay."""
    for name, first in (("first", 0), ("second", 1000)):
        crawl(tmp_path, name, first)
    flag = tmp_path / "held"
    order = {"match": r"memory/first\.", "moment": "hold", "flag": str(flag)}
    held = help.start("run", tmp_path / "first.yaml", "--out", tmp_path / "out-first", "--workers", 1, kill=order)
    end = time.monotonic() + help.PATIENCE
    while not flag.exists() and time.monotonic() < end:
        time.sleep(0.05)
    arguments = ("run", tmp_path / "second.yaml", "--out", tmp_path / "out-second", "--workers", 1)
    status, output = help.run(*arguments)
    assert status not in (0, 1), output
    assert "another run works in" in output
    Path(f"{flag}.go").touch()
    out, _ = held.communicate(timeout=help.PATIENCE)
    assert held.returncode == 0, out
    status, output = help.run(*arguments)
    assert status == 0, output
    assert len(kept(tmp_path / "out-second")) == 36
    assert [name for name, _ in generations(tmp_path)] == ["first", "second"]
