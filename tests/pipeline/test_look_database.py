"""A run as a database, and what people said of its documents."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from pipeline.errors import DamageError, UserError
from pipeline.look import labels
from pipeline.look.database import VIEWS, Shelf, connect
from pipeline.look.runfolder import RunFolder
from pipeline.shards import Corpus
from tests.pipeline.small_run import run_here, write_recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run."""
    folder = tmp_path_factory.mktemp("database")
    run_here(write_recipe(folder), folder / "out")
    return folder / "out"


def test_views_hold_what_the_ledger_names(done: Path, tmp_path: Path) -> None:
    """Figures of queries would count files that no row claims, or lack documents."""
    stray = done / "documents" / "stray.parquet"
    stray.write_bytes(RunFolder(done).parts("documents")[0].read_bytes())
    try:
        with connect(done) as database:
            counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in VIEWS}
            shards = database.execute("SELECT split, shard, count(*) FROM shards GROUP BY ALL ORDER BY ALL").fetchall()
            ids = database.execute("SELECT id FROM documents UNION ALL SELECT id FROM dropped").fetchall()
    finally:
        stray.unlink()
    corpus = Corpus.open(done)
    rows = RunFolder(done).of("documents")
    assert counts["documents"] == sum(row.body["documents"] for row in rows)
    assert counts["dropped"] > 0
    assert counts["labels"] == 0
    assert shards == sorted((name, one.name, one.documents) for name in corpus.splits for one in corpus.shards(name))
    assert all(len(one) == 32 and bytes.fromhex(one) for (one,) in ids)


def test_a_database_reads_nothing_else_and_writes_nothing(done: Path, tmp_path: Path) -> None:
    """A query copied from somewhere would read a user's files, or overwrite the run."""
    other = tmp_path / "secret.csv"
    other.write_text("a\n1\n")
    forbidden = (
        f"SELECT * FROM '{other}'", f"SELECT * FROM read_text('{other}')", f"SELECT * FROM glob('{tmp_path}/*')",
        f"COPY documents TO '{tmp_path}/copy.parquet'", f"ATTACH '{tmp_path}/other.db'", "INSTALL httpfs",
        "SET enable_external_access = true", "SET allowed_paths = ['/']",
    )  # fmt: skip
    with connect(done) as database:
        for query in forbidden:
            with pytest.raises(duckdb.Error):
                database.execute(query)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_a_run_without_deduplication_has_empty_duplicates(tmp_path: Path) -> None:
    """A query that joins duplicates would fail on a run that has none."""
    recipe = write_recipe(tmp_path, dedup=None, tokenizer=None, mixture=None, shards=None)
    run_here(recipe, tmp_path / "out")
    with connect(tmp_path / "out") as database:
        assert database.execute("SELECT loser, similarity FROM duplicates").fetchall() == []
        assert database.execute("SELECT count(*) FROM documents").fetchall()[0][0] > 0
    assert "corpus.json" in Shelf.of(tmp_path / "out").missing["shards"]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """A wrong path would give an empty database instead of a message."""
    with pytest.raises(UserError, match=r"neither ledger/ nor corpus\.json"):
        connect(tmp_path)


def test_the_last_label_stands_and_a_cut_line_is_passed_over(tmp_path: Path) -> None:
    """A kill while a label is written would lose the labels before or after it, or make them unreadable."""
    first = labels.Label("0" * 32, "good", "schön\nzwei", "ann", "2026-01-01T00:00:00Z", "a" * 32)
    second = labels.Label("1" * 32, "bad", "", "ann", "2026-01-01T00:00:01Z", "b" * 32)
    third = labels.Label("0" * 32, "bad", "no", "bob", "2026-01-01T00:00:02Z", "a" * 32)
    labels.append(tmp_path, first)
    with (tmp_path / labels.NAME).open("ab") as file:
        file.write(b'{"id": "22222222222222222222222222222222", "label": "go')
    labels.append(tmp_path, second)
    assert list(labels.read(tmp_path).values()) == [first, second]
    labels.append(tmp_path, third)
    assert labels.read(tmp_path)["0" * 32] == third
    labels.append(tmp_path, labels.Label(second.id, labels.NONE, "", "ann", second.time, second.digest))
    assert list(labels.read(tmp_path)) == ["0" * 32]
    with (tmp_path / labels.NAME).open("ab") as file:
        file.write(b'{"id": 1}\n')
    with pytest.raises(DamageError, match="line 6"):
        labels.read(tmp_path)
