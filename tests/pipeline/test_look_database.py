"""A run as a database, and what people said of its documents."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.look import clean_folder, labels
from pipeline.look.database import VIEWS, Shelf, connect
from pipeline.look.runfolder import RunFolder
from pipeline.look.sql import Asked, print_csv, print_json, print_table, print_views, write_parquet
from pipeline.look.verify import verify
from pipeline.publish import publish
from pipeline.shards import Corpus
from pipeline.train_classifier import judged
from tests.conftest import Corpusmill
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
    with (tmp_path / labels.NAME).open("ab") as file:
        file.write(b'{"id": "22222222222222222222222222222222", "label": "good", "why": "{x}')
    labels.append(tmp_path, third)
    assert labels.read(tmp_path)["0" * 32] == third
    labels.append(tmp_path, labels.Label(second.id, labels.NONE, "", "ann", second.time, second.digest))
    assert list(labels.read(tmp_path)) == ["0" * 32]
    with (tmp_path / labels.NAME).open("ab") as file:
        file.write(json.dumps(vars(first) | {"id": "00"}).encode() + b"\n")
    with pytest.raises(DamageError, match=r"line 7.*'00' is no 32 hex digits"):
        labels.read(tmp_path)
    (tmp_path / labels.NAME).write_bytes(b'{"id": 1}\n')
    with pytest.raises(DamageError, match="line 1"):
        labels.read(tmp_path)


def test_sql_prints_tables_csv_json_and_parquet(
    done: Path, tmp_path: Path, corpusmill: Corpusmill, capsys: pytest.CaptureFixture[str]
) -> None:
    """A query's rows would not reach a user's other tools as they are."""
    query = "select id, title, source from documents order by id limit 3"
    asked = Asked.of(done, "1GB")
    lines = corpusmill("sql", done, "-", stdin=query).stdout.splitlines()
    print_csv(asked, query, None)
    as_csv = list(csv.reader(capsys.readouterr().out.splitlines()))
    print_json(asked, query, None)
    as_json = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert write_parquet(asked, query, tmp_path / "out.parquet") == 3
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert lines[0] == "id\ttitle\tsource"
    assert as_csv[0] == ["id", "title", "source"]
    assert as_json == table
    assert [line.split("\t")[0] for line in lines[1:]] == [row[0] for row in as_csv[1:]] == [row["id"] for row in table]
    print_views(asked, Console(width=200))
    shown = capsys.readouterr().out
    assert all(view in shown for view in VIEWS)
    with pytest.raises(RecipeError, match="outside of the run folder"):
        write_parquet(asked, query, done / "documents" / "x.parquet")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select case when range = 5000 then error('it broke') end from range(9000)", "it broke"),
        ("select interval 3 day", "cannot be written"),
    ],
)
def test_a_query_that_fails_leaves_the_file_that_was_there(done: Path, tmp_path: Path, query: str, words: str) -> None:
    """A user would have part of the rows in a file that looks whole, in place of the earlier one."""
    (tmp_path / "rows.parquet").write_bytes(b"earlier")
    link = tmp_path / "link.parquet"
    link.symlink_to("rows.parquet")
    asked = Asked.of(done, "1GB")
    with pytest.raises(RecipeError, match=words):
        write_parquet(asked, query, link)
    assert (tmp_path / "rows.parquet").read_bytes() == b"earlier"
    write_parquet(asked, "select 1", link)
    assert pq.read_table(tmp_path / "rows.parquet").num_rows == 1
    assert {path.name for path in tmp_path.iterdir()} == {"rows.parquet", "link.parquet"}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("HTTPS://User:p@ss@WWW.Example.org:8080/a@b?c", "www.example.org"), ("http://h#f@g", "h"),
        ("ftp://h?x=a@b", "h"), ("//x/y", ""), ("mailto:a@b.example", ""), (None, None),
    ],
)  # fmt: skip
def test_host_of_a_url(done: Path, url: str | None, host: str | None) -> None:
    """Documents would be counted to, or filtered by, a host that is not theirs."""
    with connect(done) as database:
        assert database.execute("SELECT host(?)", [url]).fetchall() == [(host,)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select sorce from documents", "Did you mean 'source'?"),
        ("select * from document", "Did you mean 'documents'?"),
        ("drop view documents", "DROP is refused"),
        ("copy documents to 'x.csv'", "COPY is refused"),
        ("explain analyze copy (select 1) to 'x.csv'", "COPY is refused"),
        ("/* */ Explain (analyze) copy (select 1) to 'x.csv'", "COPY is refused"),
        ("explain analyze copy (pivot documents on source using count(*)) to 'x.csv'", "EXPLAIN is refused"),
        ("copy (pivot documents on source using count(*)) to 'x.csv'", "COPY is refused"),
        ("select 1; select 2", "give one query"),
        ("", "the query is empty"),
        ("selct 1", "syntax error"),
        ("select * from 'x.csv'", "nothing else"),
    ],
)
def test_mistakes_in_a_query_get_messages(done: Path, query: str, words: str) -> None:
    """A mistyped column would end in a traceback, or a statement change something."""
    asked = Asked.of(done, "1GB")
    with pytest.raises(RecipeError) as caught:
        list(asked.run(query)[1])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "query", ["explain select 1", "explain analyze from documents", "pivot documents on source using count(*)"]
)
def test_what_only_reads_is_answered(done: Path, query: str) -> None:
    """A user could not see why a query is slow, or would have no PIVOT."""
    assert list(Asked.of(done, "1GB").run(query)[1])


def test_control_characters_of_documents_do_not_reach_a_terminal(done: Path) -> None:
    """A document's title could steer the terminal of whoever queries it."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    print_table(Asked.of(done, "1GB"), "select chr(27) || '[2Jx\nb' as a, 1.5 as b, null as c", screen, 10)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[2Jx\\nb" in shown
    assert "\x1b[2J" not in shown


def test_published_folders_have_their_shards(done: Path, tmp_path: Path) -> None:
    """Whoever downloads a corpus could not query it."""
    publish(done, str(tmp_path / "there"), ["documents", "shards"])
    where = (tmp_path / "there").rename(tmp_path / "here")
    with connect(where) as database:
        documents = database.execute("SELECT count(*) FROM documents").fetchall()[0][0]
        assert documents == sum(row.body["documents"] for row in RunFolder(done).of("documents"))
        assert database.execute("SELECT count(DISTINCT shard) FROM shards").fetchall()[0][0] > 0
    asked = Asked.of(where, "1GB")
    with pytest.raises(RecipeError, match="published corpus without dropped"):
        asked.run("select * from dropped")


def test_labels_are_trained_on_and_survive_cleaning(done: Path, tmp_path: Path) -> None:
    """A reviewer's labels would be deleted with a run's parts, or be of no use."""
    run = Path(shutil.copytree(done, tmp_path / "run"))
    with connect(run) as database:
        rows = database.execute("SELECT id, source FROM documents").fetchall()
    for one, source in [*rows, ("f" * 32, "wet")]:
        labels.append(run, labels.Label(one, "good" if source == "docs" else "bad", "", "ann", "2026-01-01", "0" * 32))
    found = judged.read([run], "fine", "not fine")
    assert (len(found.documents), found.missing, found.changed) == (len(rows), 1, len(rows))
    assert {document.label for document in found.documents} == {"fine", "not fine"}
    clean_folder.carry_out(clean_folder.plan(run, ["shards"]))
    assert len(labels.read(run)) == len(rows) + 1
    assert verify(run).damage == []
    with pytest.raises(UserError, match="took the documents out"):
        judged.read([run], "fine", "not fine")
    with pytest.raises(RecipeError, match="has no labels"):
        judged.read([done], "fine", "not fine")
