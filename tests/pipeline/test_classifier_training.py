"""`classifier train` and `classifier test`: what is read, parted, counted and refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RecipeError
from pipeline.train_classifier.documents import Document, digests, read, section
from pipeline.train_classifier.figures import at, auc
from pipeline.train_classifier.training import parted, train
from stages.classifier.fit import Training
from stages.classifier.model import dump, load
from stages.classify import Classify

Corpusmill = Callable[..., "CompletedProcess[str]"]
GOOD = [f"The committee of {name} met in spring to discuss its budget." for name in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
BAD = [f"click here click now {name} best price casino bonus" for name in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    with gzip.open(tmp_path / "good.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text, "topic": "council"}) + "\n" for text in GOOD)
    pq.write_table(pa.table({"text": BAD, "topic": ["shop"] * len(BAD)}), tmp_path / "bad.parquet")
    return tmp_path


def test_train_and_test_from_the_command_line(files: Path, corpusmill: Corpusmill) -> None:
    """The commands of the documentation would not work, or two trainings not give the same model."""
    given = ("--positive", files / "good.jsonl.gz", "--negative", files / "bad.parquet", "--bits", 12)
    made = [json.loads(corpusmill("classifier", "train", files / f"{n}.npz", *given, "--json").stdout) for n in "ab"]
    assert (files / "a.npz").read_bytes() == (files / "b.npz").read_bytes()
    assert made[0]["documents"] + made[0]["held_out"] == len(GOOD) + len(BAD)
    model = load((files / "a.npz").read_bytes(), "a.npz")
    assert model.kind == "quality"
    assert set(model.facts["files"]) == {"good.jsonl.gz", "bad.parquet"}
    shown = corpusmill("classifier", "test", files / "a.npz", *given[:4]).stdout
    assert "on 52 documents" in shown
    assert "positive" in shown
    wrong = corpusmill("classifier", "test", files / "bad.parquet", *given[:4], check=False)
    assert wrong.returncode == 2
    assert "'bad.parquet' is no model of a classifier" in wrong.stderr


def test_several_classes_make_a_topic_model(files: Path) -> None:
    """Labels of the user's documents would be lost on the way to the stage."""
    documents = list(read([files / "good.jsonl.gz", files / "bad.parquet"], "text", None, "topic"))
    model = train(documents, "topic", ["council", "shop"], Training(bits=12), {})
    process = Classify(model="t.npz", column="topic").bind({"model": dump(model)})
    outcome = process(pa.RecordBatch.from_pydict({"text": ["the budget of the committee", "casino bonus"]}))
    assert outcome.batch.column("topic").to_pylist() == ["council", "shop"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://example.org/Sport/a.html", "sport"),
        ("https://example.org/en-GB/2024/05/k%C3%BCche/x/y", "küche"),
        ("https://example.org/sport", None),
        ("https://example.org/", None),
        ("https://example.org//sport/", "sport"),
        ("http://[broken/sport/x", None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_sections_of_urls(url: object, found: str | None) -> None:
    """A topic model would learn languages, years and single pages as topics, or fail on a broken URL."""
    assert section(url) == found


def test_sections_of_urls_are_labels(tmp_path: Path, corpusmill: Corpusmill) -> None:
    """A user with a crawl, but no labels, could make no topic model."""
    rows = [{"text": text, "url": f"https://a.example/council/{n}.html"} for n, text in enumerate(GOOD)]
    rows += [{"text": text, "url": f"https://b.example/en/shop/{n}.html"} for n, text in enumerate(BAD)]
    rows += [{"text": "A rare page of its own.", "url": "https://b.example/rare/x"}, {"text": "No URL."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pages.parquet")
    given = (tmp_path / "t.npz", "--labelled", tmp_path, "--url-field", "url")
    made = json.loads(corpusmill("classifier", "train", *given, "--bits", 12, "--json").stdout)
    assert (made["labels_left_out"], made["documents"] + made["held_out"]) == (1, len(GOOD) + len(BAD))
    assert load((tmp_path / "t.npz").read_bytes(), "t").labels == ("council", "shop")
    tested = json.loads(corpusmill("classifier", "test", *given, "--json").stdout)
    assert tested["documents"] == len(GOOD) + len(BAD)
    few = corpusmill("classifier", "train", *given, "--least", 100, check=False)
    assert (few.returncode, "53 are left out, for --least, with 3 labels" in few.stderr) == (2, True)
    wrong = corpusmill("classifier", "train", *given[:3], "--url-field", "link", check=False)
    assert "a URL with a section in 'link'" in wrong.stderr


def test_every_form_of_file_is_read(tmp_path: Path) -> None:
    """A user's files would be passed over, or read as something else."""
    (tmp_path / "a.csv").write_text('label,text\nx,"one, two"\ny,\n')
    (tmp_path / "b.txt").write_text("first\n\nsecond\n")
    with pa.output_stream(str(tmp_path / "c.jsonl.zst"), compression="zstd") as file:
        file.write(b'{"text": "\xe4\xb8\xad", "label": "z"}\n[1]\n')
    found = [*read([tmp_path / "a.csv"], "text", None, "label"), *read([tmp_path / "b.txt"], "text", "t")]
    assert found == [("x", "one, two"), ("t", "first\n"), ("t", "second\n")]
    assert list(read([tmp_path / "c.jsonl.zst"], "text", None, "label")) == [("z", "中")]
    assert [document.text for document in read([tmp_path], "text", "a")] == ["one, two", "first\n", "second\n", "中"]
    for path, message in (("d.pdf", "there is no file"), ("a.csv", "no document with the field 'body'")):
        with pytest.raises(RecipeError, match=message):
            list(read([tmp_path / path], "body", "a"))
    (tmp_path / "e.jsonl").write_text('{"text": "a"}\n{')
    with pytest.raises(RecipeError, match="line 2 is no JSON"):
        list(read([tmp_path / "e.jsonl"], "text", "a"))


def test_every_file_has_a_digest(tmp_path: Path) -> None:
    """A model would not say what it was trained on, where files of several folders have one name."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text(f'{{"text": "{folder}"}}\n', "utf-8")
    found = digests([tmp_path / "a", tmp_path / "b" / "rows.jsonl", tmp_path / "a"])
    assert list(found) == ["rows.jsonl", "b/rows.jsonl"]
    assert len(set(found.values())) == 2


def test_copies_are_never_on_both_sides() -> None:
    """Figures would be those of texts that the model has seen."""
    documents = [Document("a", f"Text number {n}") for n in range(300)]
    documents += [Document("a", f"TEXT, number {n}!") for n in range(300)]
    documents += [Document("b", "text number 7"), Document("b", "another")]
    made = parted(documents, 0.2, 1)
    assert len(made.train) + len(made.held_out) == 300
    assert made.copies == 302
    assert 30 < len(made.held_out) < 90
    assert not {d.text for d in made.train} & {d.text for d in made.held_out}


def test_figures() -> None:
    """A model would be praised for what it does not do."""
    scores, truth = np.array([1, 2, 2, 9], np.int32), np.array([False, False, True, True])
    assert auc(scores, truth) == 0.875
    assert np.isnan(auc(scores, np.ones(4, np.bool_)))
    assert at(scores, truth, 2) == {
        "threshold": 0.0002, "precision": 1.0, "recall": 0.5, "false_positives": 0.0,
    }  # fmt: skip
    assert at(scores, truth, 10)["precision"] is None


def test_one_class_alone_is_refused() -> None:
    """Training would give a model that says yes to everything."""
    with pytest.raises(RecipeError, match="at least two classes"):
        train([Document("a", "text")], "quality", ["a"], Training(bits=8), {})
