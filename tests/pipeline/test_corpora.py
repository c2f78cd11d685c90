"""Living with a corpus: verify without a ledger, head, decode, merge, remove, the stage takedown, the dataset card."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import run_here, write_recipe

from pipeline import corpus_commands, publish
from pipeline.corpora import card, cardview, equal, merging, new, removal, showing
from pipeline.corpora.folder import opened, tokenizer_of
from pipeline.errors import DamageError, LockedError, RecipeError, UserError
from pipeline.lock import FolderLock
from pipeline.look import trace
from pipeline.look.verify_copy import verify_copy
from pipeline.shards import Corpus, corpus_bytes, index_bytes, read_index
from stages.takedown import Matcher, Request, Takedown, read

Corpusmill = Callable[..., Any]
LAYOUTS = ("mixed", "by_source")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe, its run in both layouts (`mixed`, `by_source`), and both published (`...-copy`)."""
    folder = tmp_path_factory.mktemp("corpora")
    recipe = write_recipe(folder)
    notes = folder / "crawl" / "notes-0.jsonl"
    lines = notes.read_text("utf-8").rstrip("\n").split("\n")
    records = [json.loads(line) for line in lines if line.startswith('{"text": "') and line.endswith("}")]
    twins = [one | {"text": one["text"] + " ."} for one in records[:8]]  # equal but for punctuation
    notes.write_text("\n".join([*lines, *map(json.dumps, twins)]) + "\n", "utf-8")
    run_here(recipe, folder / "mixed")
    shutil.copytree(folder / "mixed", folder / "by_source")
    run_here(recipe, folder / "by_source", "shards.layout=by_source")
    for layout in LAYOUTS:
        publish.publish(folder / layout, str(folder / f"{layout}-copy"), ["documents", "shards"])
    return folder


def ids_of(corpus: Corpus) -> list[str]:
    shards = [shard for split in corpus.splits for shard in corpus.shards(split)]
    return sorted({one.hex() for shard in shards for one in corpus.documents(shard, ["id"]).column("id").to_pylist()})


def without(source: Path, out: Path, ids: list[str]) -> Corpus:
    """The corpus without these documents, and without its list of them."""
    removal.remove(source, [Request("id", one) for one in ids], out, date=None, missing_ok=False, with_duplicates=False)
    assert verify_copy(out).damage == []
    (out / "takedown.txt").unlink()
    return Corpus.open(out)


def ids_in(folder: Path, part: str) -> set[bytes]:
    tables = [pq.read_table(path, columns=["id"]) for path in opened(folder).parts(part)]
    return {one for table in tables for one in table.column("id").to_pylist()}


def files_of(corpus: Corpus) -> dict[str, dict[str, Any]]:
    return {shard.name: shard.files for split in corpus.splits for shard in corpus.shards(split)}


# verify


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_flipped_bit_is_found_and_its_file_named(made: Path, layout: str) -> None:
    """Else a corpus that rotted on a disk would train a model; or the wrong file would be fetched again."""
    folder = made / f"{layout}-copy"
    whole = verify_copy(folder)
    assert whole.damage == []
    assert whole.tokens == sum(split["tokens"] for split in Corpus.open(folder).meta["splits"].values())
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.name for path in paths} >= {"corpus.json", "published.json", "recipe.yaml"}

    @settings(max_examples=60)
    @given(st.sampled_from(paths), st.integers(0, 2**30), st.integers(0, 7))
    def flipped(path: Path, place: int, bit: int) -> None:
        data = path.read_bytes()
        changed = bytearray(data)
        changed[place % len(data)] ^= 1 << bit
        path.write_bytes(changed)
        try:
            found = {damage.file for damage in verify_copy(folder).damage}
        finally:
            path.write_bytes(data)
        assert found == {path.relative_to(folder).as_posix()}

    flipped()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bare_copy_is_checked_by_corpus_json_alone(made: Path, tmp_path: Path, layout: str) -> None:
    """Who copied only corpus.json and shards must still be told what is missing, cut short, or too much."""
    folder = Path(shutil.copytree(made / f"{layout}-copy", tmp_path / "copy"))
    for name in ("published.json", "recipe.yaml"):
        (folder / name).unlink()
    report = verify_copy(folder)
    assert report.damage == []
    assert "documents/" in report.notes[0]
    shards = sorted((folder / "shards").glob("*"))
    missing, short, flipped = shards[0], shards[4], shards[8]
    missing.unlink()
    short.write_bytes(short.read_bytes()[:-3])
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    stray = folder / "shards" / "train-00000-of-00009.bin"
    stray.write_bytes(b"xx")
    found = {damage.file: damage.reason for damage in verify_copy(folder).damage}
    for path, reason in {
        missing: "is missing",
        short: "instead of",
        flipped: "other contents",
        stray: "not name",
    }.items():
        assert reason in found.pop(f"shards/{path.name}")
    assert found == {}


def test_damage_to_the_list_of_files_is_not_blamed_on_the_files(made: Path, tmp_path: Path) -> None:
    """Who is told that whole shards are too many takes them away; a spoilt word `check` must not end all checking."""
    folder = Path(shutil.copytree(made / "by_source-copy", tmp_path / "copy"))
    for name in ("published.json", "corpus.json"):
        data = (folder / name).read_bytes()
        for place in (data.index(b'"check"') + 2, data.index(b'"sha256"') + 20):
            (folder / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert [damage.file for damage in verify_copy(folder).damage] == [name]
        (folder / name).write_bytes(data)
        if name == "published.json":
            for stray in ("documents/stray.parquet", "tokenizer/stray"):
                (folder / stray).write_bytes(b"x")
                assert [damage.file for damage in verify_copy(folder).damage] == [stray]
                (folder / stray).unlink()
            (folder / name).unlink()


def spoilt(folder: Path, change: Callable[[dict[str, Any], Path], None]) -> dict[str, str]:
    """What verify finds where corpus.json was made to agree with a change."""
    (folder / "published.json").unlink(missing_ok=True)
    meta = json.loads((folder / "corpus.json").read_text())
    change(meta, folder)
    (folder / "corpus.json").write_bytes(corpus_bytes(meta))
    return {damage.file: damage.reason for damage in verify_copy(folder).damage}


def test_what_digests_cannot_tell_is_found_too(made: Path, tmp_path: Path) -> None:
    """A fault in writing, whose digests are right, would else be met in training, or never."""

    def shares(meta: dict[str, Any], folder: Path) -> None:
        plan = json.loads((folder / "mixture.json").read_text())
        next(iter(plan["groups"].values()))["tokens"] += 1
        (folder / "mixture.json").write_text(json.dumps(plan))
        meta["files"]["mixture.json"] = new.file_sha256(folder / "mixture.json")

    def sums(meta: dict[str, Any], folder: Path) -> None:
        meta["splits"]["train"]["tokens"] += 1

    def gap(meta: dict[str, Any], folder: Path) -> None:
        shards = meta["splits"]["train"]["shards"]
        lost = shards.pop(next(place for place, shard in enumerate(shards) if shard["stem"].endswith("-of-00003")))
        for figure in ("documents", "tokens"):
            meta["splits"]["train"][figure] -= lost[figure]

    def leak(meta: dict[str, Any], folder: Path) -> None:
        meta["splits"]["test"] = meta["splits"]["validation"]

    def twice(meta: dict[str, Any], folder: Path) -> None:
        shard = meta["splits"]["validation"]["shards"][0]
        path = folder / f"{shard['stem']}.docs.parquet"
        table = pq.read_table(path)
        first = pa.array([table.column("id")[0].as_py()] * 2 + table.column("id").to_pylist()[2:], pa.binary(16))
        pq.write_table(table.set_column(table.schema.get_field_index("id"), "id", first), path)
        shard["files"][".docs.parquet"] = {"bytes": path.stat().st_size, "sha256": new.file_sha256(path)}

    def outside(meta: dict[str, Any], folder: Path) -> None:
        meta["splits"]["validation"]["shards"][0]["stem"] = "/elsewhere/train-00000-of-00001"

    for number, (change, file, reason) in enumerate(
        (
            (shares, "mixture.json", "in the shards"),
            (sums, "corpus.json", "not the sum"),
            (gap, "corpus.json", "without gaps"),
            (leak, "docs.parquet", "in the split"),
            (twice, "docs.parquet", "twice"),
            (outside, "corpus.json", "/elsewhere"),
        )
    ):
        found = spoilt(Path(shutil.copytree(made / "by_source-copy", tmp_path / str(number))), change)
        assert any(name.endswith(file) and reason in text for name, text in found.items()), (change.__name__, found)


def test_boundary_tokens_inside_documents_are_counted(made: Path, tmp_path: Path) -> None:
    """A reader that splits at boundary tokens would see more documents than there are, and nobody could say why."""
    folder = Path(shutil.copytree(made / "mixed-copy", tmp_path / "copy"))

    def change(meta: dict[str, Any], folder: Path) -> None:
        shard = meta["splits"]["train"]["shards"][0]
        path = folder / f"{shard['stem']}.bin"
        tokens = np.fromfile(path, meta["dtype"])
        tokens[:2] = meta["tokenizer"]["special"]["eot"]
        tokens.tofile(path)
        shard["files"][".bin"]["sha256"] = new.file_sha256(path)

    assert spoilt(folder, change) == {}
    assert verify_copy(folder).inner == 2


def test_shards_by_themselves_speak_for_themselves(made: Path, tmp_path: Path, corpusmill: Corpusmill) -> None:
    """Shards that came without corpus.json must not pass as checked, nor be refused."""
    shards = Path(shutil.copytree(made / "mixed-copy" / "shards", tmp_path / "shards"))
    done = corpusmill("verify", shards, "--json")
    report = json.loads(done.stdout)
    assert (report["damage"], report["shards"]) == ([], 4)
    assert "neither digests nor the vocabulary" in report["notes"][0]
    index = next(shards.glob("train-*.idx"))
    dtype, lengths = read_index(index)
    index.write_bytes(index_bytes(np.append(lengths[1:], lengths[0]), dtype))
    next(shards.glob("validation-*.bin")).unlink()
    found = {damage.file: damage.reason for damage in verify_copy(shards).damage}
    assert "boundary token" in found[f"{index.stem}.bin"]
    assert found["validation-00000-of-00001.bin"] == "is missing"
    lengths = lengths.copy()
    lengths[:2] += np.array([2**30, -(2**30)], np.int32)
    index.write_bytes(index_bytes(lengths, dtype))
    assert "document 1 has no token" in {damage.reason for damage in verify_copy(shards).damage}
    with pytest.raises(UserError, match="nothing that can be verified"):
        verify_copy(tmp_path)


# head and decode


def test_head_shows_documents_in_the_order_of_training(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else what a user looks at would not be what the model reads first."""
    run = opened(made / "by_source-copy")
    corpus = Corpus.open(run.folder)
    model = tokenizer_of(corpus)
    texts = {
        row["id"].hex(): row["text"]
        for path in run.parts("documents")
        for row in pq.read_table(path, columns=["id", "text"]).to_pylist()
    }
    first = [shard for shard in corpus.shards("train") if shard.group == "wet"]
    found = list(showing.head(corpus, model, None, 10, "wet", 0))
    rows = [row for shard in first for row in corpus.documents(shard).to_pylist()][:10]
    assert [one["id"] for one in found] == [row["id"].hex() for row in rows]
    assert all(one["text"] == texts[one["id"]] and one["whole"] for one in found)
    corpus_commands._print_documents(iter(found[:1]), as_json=False)
    assert "wet, wet" not in capsys.readouterr().out
    none = Corpus(made, corpus.meta | {"splits": {}})
    with pytest.raises(RecipeError, match="no such split"):
        list(showing.head(none, model, None, 1, None, 0))
    short = next(showing.head(corpus, model, "validation", 1, None, 5))
    assert texts[short["id"]].startswith(short["text"])
    assert not short["whole"]
    with pytest.raises(RecipeError, match="Did you mean 'wet'"):
        list(showing.head(corpus, model, None, 1, "wets", 0))
    with pytest.raises(RecipeError, match="Did you mean 'validation'"):
        list(showing.head(corpus, model, "validaton", 1, None, 0))
    (again,) = showing.document(corpus, model, found[0]["id"][:20])
    assert again["text"] == found[0]["text"]


def test_decode_shows_where_documents_end(made: Path, corpusmill: Corpusmill) -> None:
    """Tokens of a loss spike or of another tool are numbers until somebody can read them."""
    folder = made / "mixed-copy"
    corpus = Corpus.open(folder)
    one, two = showing.head(corpus, tokenizer_of(corpus), None, 2, None, 0)
    place = f"{one['shard']}:{one['token_start']}..{two['token_end']}"
    found = json.loads(corpusmill("decode", folder, place, "--json").stdout)
    assert found["texts"] == [one["text"], two["text"], ""]
    ids = ",".join(map(str, found["tokens"][: one["tokens"]]))
    told = corpusmill("decode", folder, "-", "--json", stdin=f"{ids}\n\n[5, 6]\n").stdout.splitlines()
    assert json.loads(told[0])["texts"] == [one["text"], ""]
    assert json.loads(told[1])["tokens"] == [5, 6]
    for wrong in ("train-00000:5", f"{one['shard']}:9..9", f"{one['shard']}:99999999"):
        with pytest.raises(UserError):
            showing.place(corpus, tokenizer_of(corpus), wrong)
    with pytest.raises(RecipeError, match="no token id"):
        showing.numbers("1, two")


# merge


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_taken_apart_is_the_same_to_the_byte_when_shuffled_together(
    made: Path, tmp_path: Path, layout: str
) -> None:
    """A merge that is no exact global shuffle would train on its parts one after another, and nobody would notice."""
    corpus = Corpus.open(made / layout)
    ids = ids_of(corpus)
    without(made / layout, tmp_path / "a", ids[::2])
    without(made / f"{layout}-copy", tmp_path / "b", ids[1::2])
    for order in ("ab", "ba"):
        out = tmp_path / f"{order}-merged"
        merging.merge([tmp_path / name for name in order], out, shuffle=True, allow_leaks=True)
        assert files_of(Corpus.open(out)) == files_of(corpus)
        assert verify_copy(out).damage == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_documents_are_in_a_merged_corpus_once(made: Path, tmp_path: Path, layout: str) -> None:
    """Else a document of two crawls would be learnt twice as well, and one that is held out would be trained on."""
    corpus = Corpus.open(made / layout)
    ids = ids_of(corpus)
    first = without(made / layout, tmp_path / "a", ids[: len(ids) // 2])
    without(made / layout, tmp_path / "b", ids[-5:])
    done = merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_leaks=True)
    merged = Corpus.open(tmp_path / "out")
    assert verify_copy(tmp_path / "out").damage == []
    assert ids_of(merged) == ids
    assert done.tokens == sum(split["tokens"] for split in corpus.meta["splits"].values())
    held = {name: facts for name, facts in files_of(first).items() if name.startswith("train")}
    assert {one[".bin"]["sha256"] for one in held.values()} <= {
        one[".bin"]["sha256"] for one in files_of(merged).values()
    }
    assert merged.meta["sources"] == corpus.meta["sources"] or layout == "mixed"
    assert [one["name"] for one in merged.meta["merged"]] == ["small", "small"]
    if layout == "by_source":
        asked = merged.mixture()["groups"]
        groups = [shard.group for shard in merged.shards("train")]
        assert groups == sorted(groups, key=list(dict.fromkeys(groups)).index)
        assert sum(one["share"] for one in asked.values()) == pytest.approx(1)
    kept = merging.merge(
        [tmp_path / "a", tmp_path / "b"], tmp_path / "kept", shuffle=True, keep_duplicates=True, allow_leaks=True
    )
    assert kept.documents == done.documents + done.equal
    assert not any("twice" in damage.reason for damage in verify_copy(tmp_path / "kept").damage)


def test_corpora_that_cannot_be_one_are_told_why(made: Path, tmp_path: Path) -> None:
    """Tokens of two tokenizers in one corpus are noise; what is held out here and trained on there measures nothing."""
    with pytest.raises(RecipeError, match="layout mixed and by_source"):
        merging.merge([made / "mixed", made / "by_source"], tmp_path / "out")
    other = Path(shutil.copytree(made / "mixed-copy", tmp_path / "other"))
    meta = json.loads((other / "corpus.json").read_text())
    meta["tokenizer"]["digest"] = "f" * 64
    (other / "corpus.json").write_bytes(corpus_bytes(meta))
    with pytest.raises(RecipeError, match="differ in tokenizer"):
        merging.merge([made / "mixed", other], tmp_path / "out")
    spoilt_plan = Path(shutil.copytree(made / "by_source-copy", tmp_path / "spoilt"))
    (spoilt_plan / "mixture.json").write_text("{")
    with pytest.raises(DamageError, match=r"mixture\.json"):
        merging.merge([made / "by_source", spoilt_plan], tmp_path / "out")
    shutil.rmtree(spoilt_plan)
    lock = FolderLock(opened(made / "mixed").ledger.folder)
    with lock, pytest.raises(LockedError, match="has ended"):
        merging.merge([made / "mixed", made / "mixed-copy"], tmp_path / "out")
    meta = json.loads((made / "mixed" / "corpus.json").read_text())
    meta["splits"] = {"train": meta["splits"]["validation"], "validation": meta["splits"]["train"]}
    (other / "corpus.json").write_bytes(corpus_bytes(meta))
    with pytest.raises(UserError, match="another of the corpora holds out"):
        merging.merge([made / "mixed", other], tmp_path / "out")
    done = merging.merge([made / "mixed", other], tmp_path / "out", allow_leaks=True)
    assert done.leaks.documents > 0
    assert Corpus.open(tmp_path / "out").meta["leaks"]["documents"] == done.leaks.documents
    with pytest.raises(RecipeError, match="is there already"):
        merging.merge([made / "mixed", made / "mixed-copy"], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 20), max_size=12), min_size=1, max_size=5), st.data())
def test_later_equal_documents_as_a_set_would_find_them(
    tmp_path_factory: pytest.TempPathFactory, tables: list[list[int]], data: st.DataObject
) -> None:
    """Else a document would be lost in both corpora, or stand in both."""
    owners = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(tables), max_size=len(tables))))
    folder = tmp_path_factory.mktemp("equal")
    paths = []
    for number, values in enumerate(tables):
        column = pa.array([(value * 2**120 + value).to_bytes(16, "big") for value in values], pa.binary(16))
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table({"id": column}), paths[-1])
    first: dict[int, int] = {}
    for values, owner in zip(tables, owners, strict=True):
        for value in values:
            first.setdefault(value, owner)
    found = equal.later_ones(paths, owners, folder / "scratch")
    for values, owner, rows in zip(tables, owners, found, strict=True):
        wanted = [row for row, value in enumerate(values) if first[value] != owner]
        assert ([] if rows is None else rows.tolist()) == wanted


# remove


def test_documents_are_taken_out_everywhere_and_the_rest_stays(made: Path, tmp_path: Path) -> None:
    """A document that somebody had taken out and that is still in one shard is a broken promise; so is a lost one."""
    corpus = Corpus.open(made / "mixed")
    rows = [row for shard in corpus.shards("train") for row in corpus.documents(shard).to_pylist()]
    twice = next(row for row in rows if row["copy"] == 1)
    with_url = next(row for row in rows if row["url"] and row["id"] != twice["id"])
    requests = [Request("id", twice["id"].hex()), Request("url", with_url["url"] + "/#top")]
    done = removal.remove(
        made / "mixed", requests, tmp_path / "new", date="2026-01-31", missing_ok=False, with_duplicates=False
    )
    gone = {twice["id"], with_url["id"]}
    assert done.documents.keys() == gone
    assert verify_copy(tmp_path / "new").damage == []
    left = Corpus.open(tmp_path / "new")
    assert set(ids_of(corpus)) - set(ids_of(left)) == {one.hex() for one in gone}
    for split in corpus.splits:
        wanted = [
            (row["id"], row["copy"], corpus.tokens(shard)[row["token_start"] : row["token_end"]].tolist())
            for shard in corpus.shards(split) for row in corpus.documents(shard).to_pylist() if row["id"] not in gone
        ]  # fmt: skip
        found = [
            (row["id"], row["copy"], left.tokens(shard)[row["token_start"] : row["token_end"]].tolist())
            for shard in left.shards(split) for row in left.documents(shard).to_pylist()
        ]  # fmt: skip
        assert found == wanted
    old = {facts[".bin"]["sha256"] for facts in files_of(corpus).values()}
    kept = {facts[".bin"]["sha256"] for facts in files_of(left).values()}
    assert len(old - kept) == done.shards
    assert not gone & ids_in(tmp_path / "new", "documents")
    record = json.loads((tmp_path / "new" / "removed.json").read_text())
    assert record["date"] == "2026-01-31"
    assert record["of"]["corpus_sha256"] == new.file_sha256(made / "mixed" / "corpus.json")
    assert {one["id"]: len(one["copies"]) for one in record["documents"]}[twice["id"].hex()] >= 2
    train = [row for row in rows if row["id"] in gone]
    before, after = corpus.meta["mixture"], left.meta["mixture"]
    lost = sum(before[name]["tokens_reached"] - after[name]["tokens_reached"] for name in before)
    assert lost == sum(row["token_end"] - row["token_start"] for row in train)

    place = f"{left.shards('train')[0].name}:3"
    assert trace.of_token(opened(tmp_path / "new"), place)["again"]["equal"] is None
    with pytest.raises(RecipeError, match=r"removed\.json"):
        trace.of_document(opened(tmp_path / "new"), twice["id"].hex(), None)
    there = tmp_path / "there"
    publish.publish(tmp_path / "new", str(there), ["documents", "shards"])
    assert verify_copy(there).damage == []
    assert not (there / "takedown.txt").exists()
    with pytest.raises(UserError, match="taken out of"):
        merging.merge([tmp_path / "new", made / "mixed"], tmp_path / "back", allow_leaks=True)


def test_a_request_that_names_nothing_is_an_error(made: Path, tmp_path: Path) -> None:
    """Who mistypes a URL would else believe that the page is gone."""
    requests = [Request("url", "https://nobody.example/page")]
    settings_ = {"date": None, "with_duplicates": False}
    with pytest.raises(UserError, match=r"nobody\.example"):
        removal.remove(made / "mixed-copy", requests, tmp_path / "new", missing_ok=False, **settings_)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    done = removal.remove(made / "mixed-copy", requests, tmp_path / "new", missing_ok=True, **settings_)  # type: ignore[arg-type]
    assert done.missing == requests
    assert files_of(Corpus.open(tmp_path / "new")) == files_of(Corpus.open(made / "mixed"))
    with pytest.raises(RecipeError, match="public suffix"):
        removal.requests_of({"domain": ["co.uk"]}, [])


def test_requests_that_name_the_same_documents_are_all_found(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of several people overlap; who is told that a page is not there takes the list for wrong."""
    corpus = Corpus.open(made / "mixed")
    row = next(row for row in corpus.documents(corpus.shards("train")[0]).to_pylist() if row["url"])
    host = row["url"].split("/")[2]
    path = tmp_path / "list.txt"
    id_ = row["id"].hex()
    lines = [row["url"], f"{row['url']}#part", "", f"domain {host}", f"domain {host.upper()}", id_, f"id {id_.upper()}"]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    requests = removal.requests_of({}, [path])
    assert [request.kind for request in requests] == ["url", "domain", "id"]
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as of a run that somebody else has made
    done = removal.remove(
        made / "mixed", requests, tmp_path / "new", date=None, missing_ok=False, with_duplicates=False
    )
    assert done.missing == []
    asked = json.loads((tmp_path / "new" / "removed.json").read_text())["asked"]
    assert all(one["documents"] >= 1 for one in asked)
    path.write_text("\n# nothing\n")
    with pytest.raises(RecipeError, match="nothing is asked for"):
        removal.requests_of({}, [path])


def test_damage_is_told_and_not_written_on(made: Path, tmp_path: Path) -> None:
    """Rotten tokens with fresh digests would pass for whole ever after; a spoilt file without a name, nobody mends."""
    folder = Path(shutil.copytree(made / "mixed-copy", tmp_path / "copy"))
    shard = Corpus.open(folder).shards("train")[0]
    ids = [Request("id", Corpus.open(folder).documents(shard, ["id"]).column("id")[0].as_py().hex())]
    spoil = {
        ".bin": lambda data: bytes([data[0] ^ 1]) + data[1:],
        ".docs.parquet": lambda data: data[:-6] + b"\xff" + data[-5:],
        "corpus.json": lambda data: data.replace(b'"splits"', b'"splitz"'),
    }
    for name, change in spoil.items():
        path = folder / name if name == "corpus.json" else shard.path(name)
        data = path.read_bytes()
        path.write_bytes(change(data))
        with pytest.raises(DamageError, match=re.escape(path.name)):
            removal.remove(folder, ids, tmp_path / "new", date=None, missing_ok=False, with_duplicates=False)
        if name != "corpus.json":
            with pytest.raises(DamageError, match=re.escape(path.name)):
                merging.merge([made / "mixed", folder], tmp_path / "new", shuffle=True)
        path.write_bytes(data)
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    """Each kill would else leave a hidden copy of the corpus, until the disk is full."""
    left, held, others = (
        tmp_path / f".{name}.{digit * 32}" for name, digit in (("out", "a"), ("out", "b"), ("o", "c"))
    )
    for folder in (left, held, others):
        (folder / "shards").mkdir(parents=True)
    handle = os.open(held, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with new.new_folder(tmp_path / "out") as aside, new.new_folder(tmp_path / "o"):
        (aside / "file").write_bytes(b"x")
    os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [held.name, "o", "out"]


def test_what_was_taken_out_does_not_come_back_with_the_next_run(made: Path, tmp_path: Path) -> None:
    """Without the list in the recipe, the next crawl would bring it back; without its duplicates, under another URL."""
    losers = pa.concat_tables([pq.read_table(path) for path in opened(made / "mixed").parts("duplicates")])
    asked = losers.to_pylist()[0]
    done = removal.remove(
        made / "mixed", [Request("id", asked["loser"].hex())], tmp_path / "new",
        date=None, missing_ok=False, with_duplicates=True,
    )  # fmt: skip
    assert asked["survivor"] in done.documents
    assert asked["loser"] in done.lost
    recipe = yaml.safe_load((made / "small.yaml").read_text())
    recipe["stages"] = [{"takedown": {"lists": [str(tmp_path / "new" / "takedown.txt")]}}, *recipe["stages"]]
    recipe = {name: recipe[name] for name in ("name", "inputs", "stages", "dedup")}
    (made / "again.yaml").write_text(yaml.safe_dump(recipe))
    run_here(made / "again.yaml", tmp_path / "again")
    run = opened(tmp_path / "again")
    left = ids_in(tmp_path / "again", "documents")
    assert left
    assert not left & {*done.documents, *done.lost}
    dropped = [row for path in run.parts("dropped") for row in pq.read_table(path).to_pylist()]
    assert {row["id"] for row in dropped if row["reason"] == "takedown.id"} == {*done.documents, *done.lost}


def test_requests_cover_every_spelling_and_nothing_else() -> None:
    """A page that is back under `http://` was not taken out; a neighbour that is gone was not asked for."""
    lines = b"# comment\nurl http://www.Example.org/a/?utm_source=x\ndomain b\xc3\xbccher.example\n" + b"0" * 32 + b"\n"
    matcher = Matcher(read(lines, "list"))
    urls = {
        "https://example.org/a": 0,
        "https://example.org/a#part": 0,
        "https://example.org/ab": -1,
        "https://sub.example.org/a": -1,
        "https://xn--bcher-kva.example/x": 1,
        "http://shop.b\u00fccher.example:80/": 1,
        "https://notb\u00fccher.example/": -1,
        "no url": -1,
    }
    ids = pa.array([bytes([1]) * 16] * len(urls) + [b"\0" * 16, None], pa.binary(16))
    column = pa.array([*urls, None, None], pa.string())
    assert matcher.match(ids, column).tolist() == [*urls.values(), 2, -1]
    assert matcher.match(ids[3:6], column[3:6]).tolist() == list(urls.values())[3:6]
    for bad in (b"domain co.uk", b"id 12", b"url nothing", b"domain example.org/path"):
        with pytest.raises(ValueError, match="list, line 1"):
            read(bad, "list")
    stage = Takedown(lists=("list",)).bind({"lists/0": lines})
    batch = pa.RecordBatch.from_arrays([ids, column], ["id", "url"])
    outcome = stage(batch)
    assert [(row, reason) for row, reason, *_ in outcome.dropped] == [
        (0, "url"), (1, "url"), (4, "domain"), (5, "domain"), (8, "id"),
    ]  # fmt: skip


# card


def test_a_card_loads_what_it_describes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever gets the folder must guess what is in it, and cannot load it in a line."""
    import datasets

    folder = Path(shutil.copytree(made / "mixed-copy", tmp_path / "card"))
    facts = card.facts(opened(made / "mixed"))
    text = cardview.markdown(facts, "odc-by", "corpus@example.org")
    (folder / "README.md").write_text(text)
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["task_categories"]) == ("odc-by", ["text-generation"])
    assert [config["config_name"] for config in head["configs"]] == [
        "default", "source-docs", "source-notes", "source-wet", "shards",
    ]  # fmt: skip
    assert "corpus@example.org" in text
    assert "gopher_quality.few_words" in text
    for name, count in facts["sources"].items():
        assert f"| {name} | {count:,} |" in text
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    load = {"cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(str(folder), split="train", **load).num_rows == facts["documents"]
    notes = datasets.load_dataset(str(folder), "source-notes", split="train", **load)
    assert notes.num_rows == facts["sources"]["notes"]
    shards = datasets.load_dataset(str(folder), "shards", **load)
    assert {name: split.num_rows for name, split in shards.items()} == {
        name: split["documents"] for name, split in facts["splits"].items()
    }


def test_a_card_without_a_ledger_says_what_is_known(made: Path, tmp_path: Path, corpusmill: Corpusmill) -> None:
    """A corpus that was made of others needs a card as well, and must not name whom it was taken down for."""
    ids = ids_of(Corpus.open(made / "by_source"))
    removal.remove(
        made / "by_source", [Request("id", ids[0])], tmp_path / "new", date="2026-02-03", missing_ok=False,
        with_duplicates=False,
    )  # fmt: skip
    text = corpusmill("card", tmp_path / "new").stdout
    assert "2026-02-03: 1 documents" in text
    assert ids[0] not in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"
    with pytest.raises(UserError, match="neither a run"):
        opened(tmp_path)
