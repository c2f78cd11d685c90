"""Deduplication as a user runs it: across crawls, softly, exactly, with a quality of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here
from typer.testing import CliRunner

from pipeline.accounts import funnel
from pipeline.cli import app
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.failures import UnitFailed
from pipeline.index import Index, merge
from pipeline.ledger import Ledger
from pipeline.look import clean_folder
from pipeline.phases import clean

WORDS = (
    "river bridge valley market winter harbour stone forest garden letter mountain church railway engine teacher "
    "island window morning captain castle summer village copper season message weather farmer battle flower signal"
).split()


def text(seed: int, changed: int = 0, words: int = 120) -> str:
    """A text of so many words; `changed` of them, spread over it, are others than in the text of that seed alone."""
    found = [WORDS[(seed * 7919 + place * (seed + 3) * 31 + place * place) % len(WORDS)] + str(place % 11 + seed)
             for place in range(words)]  # fmt: skip
    for number in range(changed):
        found[number * words // max(changed, 1)] = f"x{number}y{seed}"
    return " ".join(found)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def recipe(folder: Path, name: str, inputs: dict[str, int], **dedup: Any) -> Path:
    """A recipe over files of crawls, each with its generation."""
    path = folder / f"{name}.yaml"
    made = {
        "name": name,
        "inputs": [
            {"source": "web", "path": f"{file}.jsonl", "format": "jsonl"} | ({"generation": age} if age else {})
            for file, age in inputs.items()
        ],
        "dedup": {"exact": ["url", "text"], "near": {"threshold": 0.7}} | dedup,
    }
    path.write_text(yaml.safe_dump(made), "utf-8")
    return path


def table(out: Path, folder: str) -> list[dict[str, Any]]:
    return [row for path in sorted((out / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def urls(out: Path) -> set[str]:
    return {row["url"] for row in table(out, "documents")}


def lost(out: Path) -> set[tuple[str, str, str]]:
    """Each loser with the reason and the survivor, by their URLs."""
    return {(row["loser_url"], row["reason"], row["survivor_url"]) for row in table(out, "duplicates")}


def crawls(folder: Path) -> None:
    """Three crawls: pages that stay, change a little, move, and one that resembles two older ones."""
    first = [{"url": f"https://a.org/{n}", "text": text(n)} for n in range(8)]
    first += [{"url": "https://a.org/near-0", "text": text(0, 2)}]  # loses to page 0
    between = text(20).split()
    first += [{"url": "https://a.org/left", "text": " ".join(between[:120])}]
    first += [{"url": "https://a.org/right", "text": " ".join([*between[24:], *text(21).split()[:24]])}]
    second = [
        {"url": "https://a.org/1", "text": text(1, 4)},  # the same page, changed a little: lost by its URL
        {"url": "https://b.org/2", "text": text(2)},  # the same text elsewhere
        {"url": "https://b.org/0", "text": text(0, 3)},  # resembles a page that had lost
        {"url": "https://b.org/new", "text": text(30)},
        {"url": "https://b.org/middle", "text": " ".join([*between[12:], *text(21).split()[:12]])},  # resembles two
    ]
    third = [
        {"url": "https://c.org/new", "text": text(30, 2)},  # resembles one of the second crawl
        {"url": "https://c.org/new-2", "text": text(31)},
        {"url": "https://c.org/new-3", "text": text(31, 1)},
        {"url": "https://c.org/1", "text": text(1, 4)},  # equal to a text that had lost by its URL
    ]
    for name, rows in (("first", first), ("second", second), ("third", third)):
        write(folder / f"{name}.jsonl", rows)


def test_crawl_after_crawl_gives_what_one_run_gives(tmp_path: Path) -> None:
    """Fault 11 of peers: nobody names the older document. And what was published would be taken back, or a later crawl
    would keep what an earlier one already has."""
    crawls(tmp_path)
    at_once = tmp_path / "at-once"
    run_here(recipe(tmp_path, "at-once", {"first": 0, "second": 1, "third": 2}), at_once)
    kept, duplicates = set(), set()
    for name in ("first", "second", "third"):
        out = tmp_path / name
        run_here(recipe(tmp_path, name, {name: 0}, index="index"), out)
        kept |= urls(out)
        duplicates |= lost(out)
        rows = table(out, "duplicates")
        assert {row["survivor"] for row in rows if row["survivor_url"] in urls(out)} <= {
            row["id"] for row in table(out, "documents")
        }
    assert kept == urls(at_once)
    assert duplicates == lost(at_once)
    assert ("https://b.org/2", "same_text", "https://a.org/2") in duplicates
    assert ("https://b.org/0", "near_duplicate", "https://a.org/0") in duplicates
    assert ("https://a.org/1", "same_url", "https://a.org/1") in duplicates
    assert ("https://c.org/new", "near_duplicate", "https://b.org/new") in duplicates
    assert {"https://a.org/left", "https://a.org/right"} <= kept, "published by the first crawl"
    assert "https://b.org/middle" not in kept
    found = Index.read(tmp_path / "index")
    assert found is not None
    assert [(one.name, one.documents) for one in found.generations] == [("first", 11), ("second", 5), ("third", 4)]


def test_an_index_gets_a_run_once_and_is_not_changed_behind_a_later_one(tmp_path: Path) -> None:
    """Otherwise running again would drop a crawl against itself, or take back what a later crawl relied on."""
    crawls(tmp_path)
    first, out = recipe(tmp_path, "first", {"first": 0}, index="index"), tmp_path / "first"
    run_here(first, out)
    whole = urls(out)
    assert run_here(first, out) == {}
    assert urls(out) == whole
    run_here(first, out, "dedup.survivor=[id]")  # another outcome: it takes the place of the former one
    found = Index.read(tmp_path / "index")
    assert found is not None
    assert len(found.generations) == 1
    assert len(list((tmp_path / "index").glob("*.generation"))) == 1
    run_here(first, out)
    run_here(recipe(tmp_path, "second", {"second": 0}, index="index"), tmp_path / "second")
    assert run_here(first, out) == {}, "nothing to do, nothing to add"
    with pytest.raises(UserError, match="later crawls"):
        run_here(first, out, "dedup.survivor=[id]")


def test_an_index_refuses_other_parameters_and_other_folders(tmp_path: Path) -> None:
    """Otherwise signatures that mean different things would be compared, and agree in nothing."""
    crawls(tmp_path)
    run_here(recipe(tmp_path, "first", {"first": 0}, index="index"), tmp_path / "first")
    other = recipe(tmp_path, "second", {"second": 0}, index="index")
    with pytest.raises(RecipeError, match="threshold"):
        run_here(other, tmp_path / "second", "dedup.near.threshold=0.9")
    with pytest.raises(UserError, match="no index of deduplication"):
        run_here(other, tmp_path / "third", "dedup.index=first")
    with pytest.raises(RecipeError, match="one crawl at a time"):
        run_here(recipe(tmp_path, "both", {"first": 0, "second": 1}, index="index"), tmp_path / "both")


def test_indexes_merge(tmp_path: Path) -> None:
    """Otherwise two teams' crawls could not be deduplicated against together without starting anew."""
    crawls(tmp_path)
    for name in ("first", "second"):
        run_here(recipe(tmp_path, name, {name: 0}, index=f"index-{name}"), tmp_path / name)
    merged = merge([tmp_path / "index-first", tmp_path / "index-second"], tmp_path / "merged")
    assert [one.documents for one in merged.generations] == [11, 5]
    run_here(recipe(tmp_path, "third", {"third": 0}, index="merged"), tmp_path / "third")
    assert ("https://c.org/new", "near_duplicate", "https://b.org/new") in lost(tmp_path / "third")
    assert ("https://c.org/1", "same_text", "https://a.org/1") in lost(tmp_path / "third")
    with pytest.raises(RecipeError, match="holds an index already"):
        merge([tmp_path / "index-first"], tmp_path / "merged")
    run_here(recipe(tmp_path, "other", {"second": 0}, index="index-other", near={"threshold": 0.9}), tmp_path / "other")
    with pytest.raises(RecipeError, match="threshold"):
        merge([tmp_path / "index-first", tmp_path / "index-other"], tmp_path / "more")


def test_an_index_gets_what_was_published(tmp_path: Path) -> None:
    """Otherwise a run over files that were replaced would publish documents that no later crawl is told of."""
    write(tmp_path / "first.jsonl", [{"url": f"https://a.org/{n}", "text": text(n)} for n in range(3)])
    first, out = recipe(tmp_path, "first", {"first": 0}, index="index"), tmp_path / "first"
    run_here(first, out)
    write(tmp_path / "first.jsonl", [{"url": f"https://a.org/{n}", "text": text(n)} for n in range(10, 13)])
    run_here(first, out)
    write(tmp_path / "second.jsonl", [{"url": f"https://b.org/{n}", "text": text(n)} for n in (0, 10, 11)])
    run_here(recipe(tmp_path, "second", {"second": 0}, index="index"), tmp_path / "second")
    assert urls(tmp_path / "second") == {"https://b.org/0"}


def test_moved_folders_and_lost_ones(tmp_path: Path) -> None:
    """Otherwise a run would be deduplicated against itself after its folder was moved, or removed: nothing is left."""
    here = tmp_path / "here"
    here.mkdir()
    crawls(here)
    run_here(recipe(here, "first", {"first": 0}, index="index"), here / "first")
    there = here.rename(tmp_path / "there")
    whole = urls(there / "first")
    first = recipe(there, "first", {"first": 0}, index="index")
    run_here(first, there / "first")
    assert urls(there / "first") == whole
    found = Index.read(there / "index")
    assert found is not None
    assert len(found.generations) == 1
    shutil.rmtree(there / "first")
    with pytest.raises(UserError, match="remembers the documents of this run already"):
        run_here(first, there / "first")


def test_an_index_leaves_other_folders_and_comes_late(tmp_path: Path) -> None:
    """Otherwise a user's folder in it would be deleted; or an index for a run that was cleaned would be a traceback."""
    crawls(tmp_path)
    plain = recipe(tmp_path, "first", {"first": 0})
    run_here(plain, tmp_path / "first")
    clean_folder.carry_out(clean_folder.plan(tmp_path / "first", ["documents"]))
    (tmp_path / "index" / "run-20261122").mkdir(parents=True)
    (tmp_path / "index" / "run-20261122" / "precious").write_text("kept")
    with pytest.raises(UserError, match="no index of deduplication"):
        run_here(plain, tmp_path / "first", "dedup.index=index")
    (tmp_path / "index" / "run-20261122").rename(tmp_path / "run-20261122")
    run_here(plain, tmp_path / "first", "dedup.index=index")
    (tmp_path / "run-20261122").rename(tmp_path / "index" / "run-20261122")
    run_here(recipe(tmp_path, "second", {"second": 0}, index="index"), tmp_path / "second")
    assert (tmp_path / "index" / "run-20261122" / "precious").read_text() == "kept"
    assert ("https://b.org/2", "same_text", "https://a.org/2") in lost(tmp_path / "second")


def test_a_changed_generation_is_heeded(tmp_path: Path) -> None:
    """Otherwise the crawl that was said to be the older one would be lost to the newer."""
    crawls(tmp_path)
    inputs = {"first": 0, "second": 0, "third": 0}
    out = tmp_path / "out"
    run_here(recipe(tmp_path, "aged", inputs), out)
    for ages in ((0, 1, 2), (2, 1, 0), (0, 0, 0)):
        made = recipe(tmp_path, "aged", dict(zip(inputs, ages, strict=True)))
        run_here(made, out)
        fresh = tmp_path / f"fresh-{ages}"
        run_here(made, fresh)
        assert (urls(out), lost(out)) == (urls(fresh), lost(fresh))


def test_losers_name_survivors_that_are_there(tmp_path: Path) -> None:
    """Otherwise, after one file of the crawl has changed, a loser names a document that is in no corpus."""
    write(tmp_path / "loser.jsonl", [{"url": "https://a.org/loser", "text": text(1)}])
    made = recipe(tmp_path, "named", {"winner": 0, "loser": 0})
    for turn in range(3):
        write(tmp_path / "winner.jsonl", [{"url": f"https://a.org/winner-{turn}", "text": text(1) + " and more"}])
        run_here(made, tmp_path / "out")
        (row,) = table(tmp_path / "out", "duplicates")
        assert row["survivor"] in {document["id"] for document in table(tmp_path / "out", "documents")}
        assert row["survivor_url"] == f"https://a.org/winner-{turn}"


def test_index_commands_and_damage(tmp_path: Path) -> None:
    """Otherwise a damaged index would be found out by wrong duplicates, or by a traceback in mid-run."""
    crawls(tmp_path)
    for name in ("first", "second"):
        run_here(recipe(tmp_path, name, {name: 0}, index=f"index-{name}"), tmp_path / name)
    runner = CliRunner()
    both = [str(tmp_path / f"index-{name}") for name in ("first", "second")]
    made = runner.invoke(app, ["index", "merge", *both, "--out", str(tmp_path / "index")])
    assert made.exit_code == 0, made.output
    assert "2 crawls, 16 documents" in " ".join(made.output.split())
    shown = runner.invoke(app, ["index", "show", str(tmp_path / "index"), "--check", "--json"])
    facts = json.loads(shown.output)
    assert (shown.exit_code, facts["damage"]) == (0, [])
    assert [one["documents"] for one in facts["generations"]] == [11, 5]
    plain = runner.invoke(app, ["index", "show", str(tmp_path / "index")])
    assert "threshold 0.7 by estimate" in " ".join(plain.output.split())
    (matrix, *_) = sorted((tmp_path / "index").rglob("*.bin"))
    matrix.write_bytes(matrix.read_bytes()[:-1])
    assert runner.invoke(app, ["index", "show", str(tmp_path / "index"), "--check"]).exit_code == 4
    with pytest.raises(DamageError, match="bytes instead of"):
        run_here(recipe(tmp_path, "third", {"third": 0}, index="index"), tmp_path / "third")
    (tmp_path / "index" / "index.json").write_text("{")
    assert runner.invoke(app, ["index", "show", str(tmp_path / "index")]).exit_code == DamageError.exit_code


def test_mark_keeps_duplicates_and_says_whose_they_are(tmp_path: Path) -> None:
    """Otherwise a mixture that weighs by the number of copies would have nothing to weigh."""
    crawls(tmp_path)
    write(tmp_path / "again.jsonl", [json.loads(line) for line in (tmp_path / "first.jsonl").open()][:1])
    plain = tmp_path / "plain"
    inputs = {"first": 0, "second": 0, "again": 0}
    run_here(recipe(tmp_path, "plain", inputs), plain)
    out = tmp_path / "marked"
    run_here(recipe(tmp_path, "marked", inputs, mode="mark"), out)
    rows = {row["id"]: row for row in table(out, "documents")}
    assert len(rows) == 16, "all but the record that is there twice"
    assert {row["reason"] for row in table(out, "dropped")} == {"dedup.same_record"}
    run_here(recipe(tmp_path, "plain", inputs), plain, "dedup.mode=mark")
    assert all("duplicate_of" in pq.read_schema(path).names for path in (plain / "documents").iterdir())
    run_here(recipe(tmp_path, "plain", inputs), plain)
    assert {row["url"] for row in rows.values() if row["duplicate_of"] is None} == urls(plain)
    for row in rows.values():
        of = rows[row["duplicate_of"] or row["id"]]
        assert of["duplicate_of"] is None
        assert row["cluster_size"] == of["cluster_size"]
    sizes = {row["url"]: row["cluster_size"] for row in table(plain, "documents")}
    assert sizes == {row["url"]: row["cluster_size"] for row in rows.values() if row["duplicate_of"] is None}
    assert lost(out) == lost(plain)
    (step,) = [step for step in funnel(Ledger(out)) if step.stage == "dedup"]
    assert step.counts == {"duplicates_that_stay": len(lost(plain)) - 1}, "the report says how many"


def test_exact_verification_keeps_every_pair_at_its_word(tmp_path: Path) -> None:
    """Otherwise documents would be lost to an estimate that was too high by chance."""
    rows = [{"url": f"https://a.org/{n}-{c}", "text": text(n, c)} for n in range(12) for c in range(14)]
    write(tmp_path / "first.jsonl", rows)
    out = tmp_path / "exact"
    near = {"threshold": 0.7, "verify": "exact", "max_cluster": 2}
    run_here(recipe(tmp_path, "exact", {"first": 0}, near=near), out)
    texts = {row["url"]: row["text"].split() for row in rows}

    def jaccard(one: str, other: str) -> float:
        sets = [{tuple(texts[url][at : at + 5]) for at in range(len(texts[url]) - 4)} for url in (one, other)]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    found = table(out, "duplicates")
    assert len(found) > 20
    for row in found:
        assert row["similarity"] == pytest.approx(jaccard(row["loser_url"], row["survivor_url"]), abs=1e-9)
        assert row["similarity"] >= 0.7


def test_quality_decides_and_must_be_a_column_of_numbers(tmp_path: Path) -> None:
    """Otherwise the better copy would be lost, or a typing error in the column's name would go unnoticed."""
    write(tmp_path / "first.jsonl", [{"url": "https://a.org/long", "text": text(1) + " and a few words more"},
                                     {"url": "https://a.org/good", "text": text(1)}])  # fmt: skip
    made = recipe(tmp_path, "quality", {"first": 0})
    data = yaml.safe_load(made.read_text())
    data["stages"] = [{"small_stages:Shortness": {}}]
    made.write_text(yaml.safe_dump(data))
    run_here(made, tmp_path / "plain")
    assert urls(tmp_path / "plain") == {"https://a.org/long"}
    run_here(made, tmp_path / "good", "dedup.quality=shortness")
    assert urls(tmp_path / "good") == {"https://a.org/good"}
    with pytest.raises(UnitFailed) as caught:
        run_here(made, tmp_path / "wrong", "dedup.quality=shortnes")
    assert "Did you mean 'shortness'" in caught.value.failure.message


def test_the_same_texts_in_other_files_give_the_same_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 1 and 2 of peers: which documents are kept hangs on how they were spread over files and workers; here,
    over batches too."""
    crawls(tmp_path)
    rows = [json.loads(line) for name in ("first", "second", "third") for line in (tmp_path / f"{name}.jsonl").open()]
    found = []
    for number, cuts in enumerate(([20], [1, 3, 16], [7, 13], [5] * 4)):
        folder = tmp_path / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        left = list(rows) if number % 2 else list(reversed(rows))
        for name, cut in enumerate(cuts):
            write(folder / f"{name}.jsonl", left[:cut])
            left = left[cut:]
        out = folder / "out"
        monkeypatch.setattr(clean, "BATCH_ROWS", (64, 1, 3, 7)[number])
        run_here(recipe(folder, "cut", {str(name): 0 for name in range(len(cuts))}), out)
        documents = {(row["url"], row["text"], row["cluster_size"]) for row in table(out, "documents")}
        similar = {(row["loser"], row["survivor"], row["similarity"]) for row in table(out, "duplicates")}
        found.append((documents, similar, lost(out)))
    assert found[0] == found[1] == found[2] == found[3]


def test_unique_documents_all_stay(tmp_path: Path) -> None:
    """Fault 5 of peers: at most sizes, one of fifty unique documents survives a filter with a wrong modulo."""
    for count in (1, 50, 333):
        rows = [{"url": f"https://a.org/{n}", "text": " ".join(f"w{n * 200 + place}" for place in range(60))}
                for n in range(count)]  # fmt: skip
        write(tmp_path / f"unique-{count}.jsonl", rows)
        out = tmp_path / f"out-{count}"
        run_here(recipe(tmp_path, f"unique-{count}", {f"unique-{count}": 0}), out)
        assert urls(out) == {row["url"] for row in rows}
        assert lost(out) == set()


def test_short_documents_are_neither_dropped_nor_immune(tmp_path: Path) -> None:
    """Fault 7 of peers: documents shorter than the n-gram never deduplicate, or are dropped."""
    texts = ["two words", "Two words!", "two", "二", "二。", "one two three four", "...", "...", "***", ""]
    write(tmp_path / "first.jsonl", [{"url": f"https://a.org/{n}", "text": one} for n, one in enumerate(texts)])
    out = tmp_path / "out"
    run_here(recipe(tmp_path, "short", {"first": 0}, exact=[]), out)
    kept = [row["text"] for row in table(out, "documents")]
    assert len(kept) == len({"two words", "two", "二", "one two three four", "...", "***"})
    reasons = {row["reason"] for row in table(out, "dropped")}
    assert "dedup.near_duplicate" in reasons
    assert pc.sum(pc.equal(pq.read_table(out / "duplicates").column("reason"), "near_duplicate")).as_py() == 3
