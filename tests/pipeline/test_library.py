"""Stages on tables and datasets of one's own: what a run would do, in three lines."""

from __future__ import annotations

import doctest
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here

import pipeline.library
from pipeline.errors import UserError
from pipeline.library import apply, columns
from pipeline.resources import load
from stages.base import Stage
from stages.classify import Classify
from stages.emoji_names import Emoji
from stages.extract import Extract
from stages.language import Language
from stages.normalize import Normalize
from stages.pii import Pii
from stages.quality.gopher import GopherQuality
from stages.registry import STAGES, make
from stages.schema import READ
from stages.url import Url

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()

NGRAM = Path(__file__).parents[1] / "data" / "ngram"
TEXTS = [
    "The quick brown fox jumps over the lazy dog, and that is all there is to say of it. 👍 Write to me@mail.org. " * 4,
    "我❄️你，今天天气很好。我们去公园散步吧！他妈的，他妈的，他妈的。" * 3,
    None,
]
PAGE = "<title>Ein Ümlaut</title><article><h1>A page</h1><p>With some text in it, and a second clause.</p></article>"
TABLE = pa.table({"text": TEXTS, "language": ["en", "zh", None], "page": [7, 8, 9]})
WORDY = GopherQuality(min_words=20, min_stop_words=0)


def stage_named(name: str) -> Stage:
    return make(STAGES[name], {"models": {"en": {"lm": "tiny.arpa"}}} if name == "perplexity" else {})


def by_hand(stage: Stage, table: pa.Table) -> list[dict[str, Any]]:
    """What the stage makes of the rows as a reader would give them, columns that no reader fills left out."""
    values = {"id": bytes(16), "source": "", "content_type": "text/html; charset=utf-8"}
    rows = [values | row | {"payload": row["html"] and row["html"].encode()} for row in table.to_pylist()]
    batch = pa.RecordBatch.from_pylist([{name: row.get(name) for name in READ.names} for row in rows], schema=READ)
    outcome = stage.bind(load(stage.files(), NGRAM))(batch)
    assert len(outcome.dropped) + outcome.batch.num_rows == batch.num_rows
    made: list[dict[str, Any]] = outcome.batch.to_pylist()
    return made


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_does_what_it_does_in_a_run(name: str) -> None:
    """Else a stage tried on a table would say something else than the run that it was tried for."""
    stage = stage_named(name)
    table = TABLE.append_column("html", pa.array([PAGE if name == "extract" else None] * 3, pa.string()))
    wanted = by_hand(stage, table)
    kept = apply(table, stage, html="html", folder=NGRAM)
    assert isinstance(kept, pa.Table)
    assert kept.num_rows == len(wanted)
    assert set(kept.column_names) >= {"text", "page"}
    assert ("html" in kept.column_names) == (name != "extract")
    for column in set(kept.column_names) - {"page", "html"}:
        assert kept[column].to_pylist() == [row[column] for row in wanted], column
    own = datasets.Dataset.from_dict({column: table[column].to_pylist() for column in table.column_names})
    made = apply(own, stage, html="html", folder=NGRAM)
    assert isinstance(made, datasets.Dataset)
    assert made.with_format("arrow")[:].to_pylist() == kept.to_pylist()


def test_the_example_holds() -> None:
    """The first thing that a reader of the module tries."""
    assert doctest.testmod(pipeline.library).attempted > 5
    assert doctest.testmod(pipeline.library).failed == 0


def test_stages_in_a_row_do_what_a_run_does(tmp_path: Path) -> None:
    """Else a chain tried on a table would keep other documents, or other texts, than a run."""
    rows = [{"url": f"http://example.org/{place}", "text": text} for place, text in enumerate(TEXTS) if text]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "url": {}, "normalize": {}, "language": {}, "gopher_repetition": {"max_top_2": 0.9, "max_top_3": 0.9,
        "max_top_4": 0.9, "max_repeated_5": 1.0, "max_repeated_6": 1.0, "max_repeated_7": 1.0, "max_repeated_8": 1.0,
        "max_repeated_9": 1.0, "max_repeated_10": 1.0}, "emoji": {}, "bias": {"mode": "swap"}, "pii": {"mode": "fake"},
    }  # fmt: skip
    recipe = tmp_path / "own.yaml"
    stages = [{name: fields} for name, fields in settings.items()]
    recipe.write_text(yaml.safe_dump({"inputs": [{"source": "a", "path": "a.jsonl"}], "stages": stages}))
    run_here(recipe, tmp_path / "run")
    (part,) = (tmp_path / "run" / "documents").glob("*.parquet")
    wanted = sorted(pq.read_table(part).to_pylist(), key=lambda row: str(row["url"]))
    assert len(wanted) == 2
    given = pa.Table.from_pylist([row | {"source": "a"} for row in rows])
    kept = apply(given, *(make(STAGES[name], fields) for name, fields in settings.items()))
    assert set(kept.column_names) - set(wanted[0]) == set()
    assert kept.to_pylist() == [{name: row[name] for name in kept.column_names} for row in wanted]
    assert "<EMAIL>" not in kept["text"][0].as_py()
    assert "me@mail.org" not in kept["text"][0].as_py()


def test_dropped_rows_are_marked_and_left_as_they_came() -> None:
    """Else nobody could look at what a filter throws away."""
    marked = apply(TABLE, Emoji(), GopherQuality(min_words=90, min_stop_words=0), mark="why")
    assert marked["page"].to_pylist() == [7, 8, 9]
    reasons = [row and row["reason"] for row in marked["why"].to_pylist()]
    assert reasons == [None, "gopher_quality.few_words", "emoji.no_text"]
    assert marked["why"][1].as_py()["limit"] == 90
    assert marked["text"][1].as_py() == TEXTS[1]
    assert "thumbs up" in marked["text"][0].as_py()
    everything = apply(TABLE, Emoji(), Language(keep=("fr",)), mark="why")
    assert everything.select(["text", "page"]) == TABLE.select(["text", "page"])


KINDS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_text_column_of_any_name(kind: pa.DataType) -> None:
    """Tables of other tools come with other types, and call the text as they like."""
    table = pa.table({"body": pa.array(TEXTS, kind), "text": [1, 2, 3], "statistics": [4, 5, 6]})
    for stage in (WORDY, Emoji()):  # one that leaves the texts alone, and one that writes them
        made = apply(table, stage, text="body")
        assert made["text"].to_pylist() == [1, 2]
        assert made["statistics"].to_pylist() == [4, 5]
        assert made.schema.field("body").type == (kind if kind in KINDS[:2] else pa.string())
    assert "thumbs up" in made["body"][0].as_py()
    assert apply(table.slice(0, 0), Emoji(), text="body").schema == made.schema
    assert apply(table.schema.empty_table(), Emoji(), text="body").schema == made.schema


def test_layouts_that_arrow_takes_no_rows_of() -> None:
    """Polars hands out lists of views; such a column beside the text must not end in an Arrow error."""
    views = pa.array([["a"], None, ["b"]], pa.large_list(pa.string_view()))
    runs = pa.RunEndEncodedArray.from_arrays([1, 3], ["x", "y"])
    inner = pa.array([{"a": b"x"}] * 3, pa.struct([("a", pa.binary_view())]))
    table = TABLE.append_column("views", views).append_column("runs", runs).append_column("inner", inner)
    made = apply(table, Emoji(), mark="why")
    assert made["views"].to_pylist() == views.to_pylist()
    assert made["runs"].to_pylist() == ["x", "y", "y"]
    assert made["inner"].to_pylist() == inner.to_pylist()


def test_columns_that_mean_something_else_are_let_alone() -> None:
    """Else a label called `language`, or a date as a text, would end in an error or be lost."""
    table = TABLE.set_column(1, "language", pa.array([0, 1, 2])).append_column("date", pa.array(["now"] * 3))
    table = table.append_column("id", pa.array(["a", "b", "c"]))
    made = apply(table, Normalize(), Classify(), Pii())
    names = ["language", "date", "id", "page"]
    assert made.select(names) == table.select(names).slice(0, 2)


def test_batches_come_back_as_batches_and_readers_as_readers() -> None:
    """Else a caller's next line would fail; a reader of a large file must not be read whole at once."""
    (batch,) = TABLE.to_batches()
    made = apply(batch, Emoji())
    assert isinstance(made, pa.RecordBatch)
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            read.append(number)
            yield batch

    reader = apply(pa.RecordBatchReader.from_batches(batch.schema, batches()), Emoji())
    assert isinstance(reader, pa.RecordBatchReader)
    assert read == []
    assert reader.read_next_batch() == made
    assert read == [0]
    assert reader.read_all().num_rows == 4


def test_long_texts_go_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a column of more than two gigabytes could not be looked at."""
    monkeypatch.setattr(columns, "BATCH_BYTES", 4 * 250)
    table = pa.table({"text": ["a" * 100, "b" * 100, "c" * 100, None, "d" * 900, "e"]})
    (batch,) = table.to_batches()
    assert [piece.num_rows for piece in columns.pieces(batch, ["text"])] == [2, 2, 1, 1]
    assert apply(table, Emoji())["text"].to_pylist() == [text for text in table["text"].to_pylist() if text]
    monkeypatch.setattr(columns, "ROWS", 2)
    assert [piece.num_rows for piece in columns.pieces(batch, [])] == [2, 2, 2]


def test_datasets_keep_their_features_and_formats() -> None:
    """Else labels would become numbers, and a torch loader get lists."""
    features = datasets.Features(
        {"text": datasets.Value("large_string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    own = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 1]}, features=features)
    made = apply(own, WORDY, Language())
    assert made.features["label"] == features["label"]
    assert made.features["text"] == features["text"]
    assert made.features["language_score"] == datasets.Value("float32")
    as_numpy = apply(own.with_format("numpy", columns=["label"]), Language())
    assert as_numpy.format["type"] == "numpy"
    assert isinstance(as_numpy[0]["label"], np.int64)
    both = apply(datasets.DatasetDict(train=own, test=own), WORDY)
    assert isinstance(both, datasets.DatasetDict)
    assert both["test"].num_rows == 2
    assert apply(own.select([]), Language()).features == apply(own, Language()).features


def test_streams_are_read_as_they_are_asked_for() -> None:
    """Else a dataset that does not fit on the disk could not be cleaned."""
    read: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(5_000):
            read.append(number)
            yield {"text": TEXTS[number % 3], "page": number}

    features = datasets.Features({"text": datasets.Value("string"), "page": datasets.Value("int64")})
    stream = apply(datasets.IterableDataset.from_generator(rows, features=features), WORDY, Emoji(), mark="why")
    assert isinstance(stream, datasets.IterableDataset)
    assert read == []
    first = next(iter(stream))
    assert first["why"] is None
    assert "thumbs up" in first["text"]
    assert 0 < len(read) <= 2 * columns.ROWS
    own = datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    assert [row["text"] for row in apply(own, WORDY)] == TEXTS[:2]
    mixed = datasets.IterableDataset.from_generator(lambda: iter([{"text": "a", "n": "x"}, {"text": "b", "n": 1}]))
    with pytest.raises(UserError, match="the column 'n' of the stream holds values of several types"):
        list(apply(mixed, WORDY))


def test_a_changed_stage_is_not_served_from_the_cache(tmp_path: Path) -> None:
    """Hugging Face keeps what a function made; another setting or another list must not be given the old rows."""
    (tmp_path / "words.txt").write_text("fox\n")
    datasets.Dataset.from_dict({"text": TEXTS, "url": ["http://a.org/fox", "http://a.org/dog", None]}).save_to_disk(
        tmp_path / "own"
    )
    own = datasets.load_from_disk(tmp_path / "own")

    def kept(*stages: Stage) -> list[str]:
        made: list[str] = apply(own, *stages, folder=tmp_path)["url"]
        return list(made)

    assert kept(Url(words=("words.txt",))) == ["http://a.org/dog", None]
    (tmp_path / "words.txt").write_text("dog\n")
    assert kept(Url(words=("words.txt",))) == ["http://a.org/fox", None]
    assert len(kept(WORDY)) == 2
    assert kept(GopherQuality(min_words=1_000)) == []


def test_several_processes() -> None:
    """Stages must reach the processes that Hugging Face starts; what they load must not travel."""
    own = datasets.Dataset.from_dict({"text": TEXTS * 4})
    assert apply(own, WORDY, workers=2)["text"][:] == [text for text in TEXTS * 4 if text]


def test_mistakes_are_named() -> None:
    """Else a typing error would end in an Arrow error of three lines, or do nothing."""
    for given, words, message in (
        (TABLE, {"text": "txt"}, r"text: there is no column 'txt'. Did you mean 'text'\?"),
        (TABLE, {"html": "pag"}, r"html: there is no column 'pag'. Did you mean 'page'\?"),
        (TABLE, {"text": "page"}, "text: the column 'page' is of type int64"),
        (TABLE, {"mark": "page"}, "mark: the table has a column 'page' already"),
        ([{"text": "a"}], {}, "apply takes a Table.*not builtins.list"),
    ):
        with pytest.raises(UserError, match=message):
            apply(given, Pii(), **words)  # type: ignore[arg-type]
    twice = pa.Table.from_arrays([TABLE["text"], TABLE["page"], TABLE["page"]], names=["text", "page", "page"])
    with pytest.raises(UserError, match="several columns of one name: page"):
        apply(twice, Pii())
    with pytest.raises(UserError, match="mark: a stage writes a column 'classifier'"):
        apply(TABLE, Classify(), mark="classifier")
    with pytest.raises(UserError, match=r"stage emoji: mode: .*found 'nme'. Did you mean 'name'"):
        apply(TABLE, Emoji(mode="nme"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'pii' is no stage"):
        apply(TABLE, "pii")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no file none"):
        apply(TABLE, Url(words=("none.txt",)))


def test_pages_as_bytes_with_what_the_server_said() -> None:
    """Crawls keep pages as bytes, in any charset."""
    pages = [PAGE.encode("latin-1"), PAGE.encode(), None]
    table = pa.table({"payload": pages, "content_type": ["text/html; charset=iso-8859-1", None, None]})
    made = apply(table, Extract())
    assert made["title"].to_pylist() == ["Ein Ümlaut"] * 2
    assert "content_type" not in made.column_names
    with_own = apply(table.append_column("text", pa.array([None, None, "A text"])), Extract())
    assert with_own["text"].to_pylist()[2] == "A text"
