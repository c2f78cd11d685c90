"""Substrings that recur across documents, through the phases of a run: what is cut, counted, dropped and traced."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import accounts, edits, index
from pipeline.engine import do_unit
from pipeline.errors import PromiseError, RecipeError
from pipeline.ledger import Ledger, Row
from pipeline.look import reextract
from pipeline.look.dropped import Chosen, records
from pipeline.look.runfolder import RunFolder
from pipeline.phases import PHASES, clean, exact, substrings
from pipeline.progress import Reporter
from pipeline.readers.base import batches
from pipeline.recipe import Band, check, read_recipe
from pipeline.versions import VERSIONS
from pipeline.work import Context, Task
from stages.substrings.groups import Sharing
from stages.substrings.repeated import repeated
from stages.text.column import Edits, edited

TOKENS = 12


def documents(draw: random.Random) -> list[dict[str, Any]]:
    """Texts of words drawn from a few, so that many stretches recur; equal texts, odd letters, short and bare texts."""
    words = ["river", "Straße", "ﬁne", "中", "文", "ก่า", "ice", "½", "ĺ", "of", "a\u0301b", "tea"]
    shared = [[draw.choice(words) for _ in range(draw.randint(8, 40))] for _ in range(6)]
    found = []
    for number in range(90):
        text = [f"n{number}x{draw.randrange(10**9)}" for _ in range(draw.randint(0, 12))]
        for _ in range(draw.randint(0, 3)):
            piece = draw.choice(shared)
            begin = draw.randrange(3)
            place = draw.randint(0, len(text))
            text[place:place] = piece[begin : len(piece) - draw.randrange(3)]
        lines = " ".join(text) if draw.random() < 0.5 else "\n".join(text)
        found.append({"text": lines or "bare", "url": f"https://h{number % 7}.example/{number}"})
    return [*found, found[3], found[5] | {"url": "https://other.example/"}]


def write(folder: Path, rows: list[dict[str, Any]], files: int, **settings: Any) -> Path:
    """The rows in files of two sources, and a recipe over them."""
    for number in range(files):
        lines = "".join(json.dumps(row) + "\n" for row in rows[number::files])
        (folder / f"{'ab'[number % 2]}-{number}.jsonl").write_text(lines, "utf-8")
    recipe = {
        "name": "cut",
        "inputs": [{"source": "x", "path": "*.jsonl", "format": "jsonl"}],
        "dedup": {"exact": ["url", "text"], "substrings": {"tokens": TOKENS, "min_words": 3, **settings}},
    }
    path = folder / "cut.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def units(recipe: Path, out: Path, draw: random.Random | None = None, died: Collection[str] = ()) -> Context:
    """Does all units of a run in this process, without Beam, those of a phase in the order that `draw` gives them. A
    unit that fails with its phase in `died` is done once more."""
    context = Context(out, recipe.parent, read_recipe(recipe))
    context.ledger.folder.mkdir(parents=True)
    context.ledger.create(context.recipe.name)
    (context.ledger.folder / "context.json").write_text(json.dumps(context.to_json()), "utf-8")
    (out / "desk").mkdir()
    reporter = Reporter(out / "desk")
    index.begin(context)
    for phase in PHASES.values():
        tasks = phase.tasks(context)
        if draw is not None:
            draw.shuffle(tasks)
        for task in tasks:
            task = Task(*json.loads(json.dumps([task.phase, task.key, task.size, task.spec])))
            try:
                do_unit(task, Context.from_json(context.to_json()), reporter)
            except RuntimeError:
                assert task.phase in died
                do_unit(task, Context.from_json(context.to_json()), reporter)
        context.known.clear()
    accounts.check_identities(context)
    return context


def kept(out: Path) -> dict[bytes, str]:
    """The texts of the documents by id."""
    rows = [row for path in (out / "documents").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(len(row["text"]) == row["characters"] for row in rows)
    return {row["id"]: row["text"] for row in rows}


def expected(context: Context) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """What `stages.substrings.repeated` gives, all in memory: the texts kept, and the reasons of documents lost."""
    found = [row for path in (context.out / "dropped").glob("dedup-*") for row in pq.read_table(path).to_pylist()]
    lost = {row["id"] for row in found if row["reason"] != "dedup.same_record"}  # of which the other one stays
    rows = {row["id"]: row for path in (context.out / "clean").glob("*") for row in pq.read_table(path).to_pylist()}
    order = sorted((row for row in rows.values() if row["id"] not in lost), key=lambda r: (-len(r["text"]), r["id"]))
    settings = context.recipe.dedup.substrings
    sharing = Sharing(tokens=settings.tokens, least=settings.min_documents, most=settings.max_documents)
    column = pa.array([row["text"] for row in order])
    cuts = repeated(column, sharing)
    left = edited(column, Edits(cuts.rows, cuts.starts, cuts.ends, np.zeros(len(cuts.rows), np.int64))).to_pylist()
    words = substrings.located(column).counts - np.bincount(cuts.rows, weights=cuts.words, minlength=len(order))
    touched = set(cuts.rows.tolist())
    texts, reasons = {}, {}
    for number, (row, text) in enumerate(zip(order, left, strict=True)):
        if number in touched and words[number] < settings.min_words:
            reasons[row["id"]] = "substrings.few_words" if words[number] else "substrings.empty"
        else:
            texts[row["id"]] = text
    return texts, reasons


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return documents(random.Random(3))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Context:
    folder = tmp_path_factory.mktemp("substrings")
    return units(write(folder, rows, 3), folder / "out")


def test_documents_are_what_memory_gives(run: Context) -> None:
    """The phases would cut something else than what is proven of the stages; or another document than the better."""
    texts, reasons = expected(run)
    assert kept(run.out) == texts
    dropped = {
        row["id"]: row["reason"] for row in records(RunFolder(run.out), Chosen()) if row["stage"] == "substrings"
    }
    assert dropped == reasons
    assert {"substrings.empty", "substrings.few_words"} == set(reasons.values())


def test_what_is_cut_is_counted(run: Context) -> None:
    """The promise: text that is gone without a figure in the funnel is not accounted for."""
    *_, dedup, step = accounts.funnel(run.ledger)
    texts, reasons = expected(run)
    assert (step.stage, step.entered, step.kept) == ("substrings", dedup.kept, len(texts))
    assert step.lost == len(reasons)
    clean = {
        row["id"]: row["text"]
        for path in (run.out / "clean").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    cut = {id: len(clean[id]) - len(text) for id, text in texts.items()}
    assert step.counts["characters_cut"] == sum(cut.values()) > 0
    assert step.counts["documents_cut"] == sum(size > 0 for size in cut.values())
    assert step.characters == sum(map(len, texts.values()))


def test_any_order_any_files_any_ranges(
    run: Context, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents would depend on how a crawl is cut into files, on their names, or on how many workers there are."""
    monkeypatch.setattr(substrings, "CHUNK", 40)
    monkeypatch.setattr(substrings, "RANGE", 150)
    draw = random.Random(1)
    shuffled = rows.copy()
    draw.shuffle(shuffled)
    other = units(write(tmp_path, shuffled, 5), tmp_path / "out", draw)
    assert len(other.ledger.keys("repeats")) > 2
    assert kept(other.out) == kept(run.out)


def test_duplicates_that_stay_are_left_alone(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """In `mode: mark` nothing would be left of a duplicate; or it would take a substring from its own survivor."""
    again = [row | {"url": f"https://mirror.example/{number}"} for number, row in enumerate(rows[:12])]
    recipe = write(tmp_path, [*rows[:30], *again], 3)
    data = yaml.safe_load(recipe.read_text())
    data["dedup"]["mode"] = "mark"
    recipe.write_text(yaml.safe_dump(data))
    context = units(recipe, tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / "documents").to_pylist()
    marked = [row for row in found if row["duplicate_of"] is not None]
    clean = {row["id"]: row["text"] for row in pq.read_table(tmp_path / "out" / "clean").to_pylist()}
    assert len(marked) > 3
    assert all(row["text"] == clean[row["id"]] for row in marked)
    assert any(row["text"] != clean[row["id"]] for row in found)
    assert accounts.funnel(context.ledger)[-1].kept == len(found)


@pytest.mark.parametrize("settings", [{"min_documents": 1}, {"min_documents": 3}, {"max_documents": 4}])
def test_bounds(settings: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """A recipe's bounds on how many documents share a stretch would be ignored by the phases."""
    context = units(write(tmp_path, rows[:40], 2, **settings), tmp_path / "out")
    assert kept(context.out) == expected(context)[0]


def test_a_unit_that_was_killed_is_done_again(
    run: Context, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker left behind when it died, files without their manifest row, would be read or be in the way."""
    real = Ledger._write_row
    died: set[str] = set()

    def dying(self: Ledger, row: Row) -> None:
        if row.phase not in died:
            died.add(row.phase)
            raise RuntimeError("killed")
        real(self, row)

    monkeypatch.setattr(Ledger, "_write_row", dying)
    context = units(write(tmp_path, rows, 3), tmp_path / "out", died=died)
    assert died >= {"fingerprints", "repeats", "stretches", "matches", "spans", "documents"}
    assert kept(context.out) == kept(run.out)


def test_behind_an_index(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """With `dedup.index` documents have other numbers: a later crawl would be cut at the places of other documents."""
    again = [row | {"url": f"https://later.example/{number}"} for number, row in enumerate(rows[30:80])]
    for name, some in (("first", rows[:40]), ("second", again)):
        (tmp_path / name).mkdir()
        recipe = write(tmp_path / name, some, 2)
        data = yaml.safe_load(recipe.read_text())
        data["dedup"]["index"] = str(tmp_path / "index")
        recipe.write_text(yaml.safe_dump(data))
        context = units(recipe, tmp_path / name / "out")
        index.add(context)
    assert exact.committed(context).body["known"] == 40
    assert kept(context.out) == expected(context)[0]


def test_a_band_on_what_is_dropped(run: Context) -> None:
    """A recipe's `expect: {substrings: ...}` would be a promise that nobody keeps."""
    for low, fine in ((0.0, True), (0.9, False)):
        recipe = run.recipe.model_copy(update={"expect": {"substrings": Band(drop=(low, 1.0))}})
        with nullcontext() if fine else pytest.raises(PromiseError, match=r"expect\.substrings\.drop"):
            accounts.check_bands(replace(run, recipe=recipe), "spans", final=True)
    assert "substrings" in run.recipe.labels()


def test_what_the_rows_say(run: Context) -> None:
    """What an older version wrote would be read as what it is not: see `pipeline.versions`."""
    facts = {
        "fingerprints": {"documents", "characters", "records"},
        "repeats": {"cut", "open"},
        "stretches": {"records"},
        "matches": {"cut", "open"},
        "spans": {"clean", "entered", "kept", "dropped", "counts", "characters", "changed"},
    }
    for phase, names in facts.items():
        assert VERSIONS[phase] == 1
        for row in run.ledger.rows(phase):
            assert row.body.keys() - {"timing"} == names, f"raise the version of {phase}"


def test_extracted_again_with_its_cuts(run: Context) -> None:
    """`trace` would show a text that the model never saw."""
    folder = RunFolder(run.out)
    chain = clean.chain_of(run)
    cut = 0
    for path in (run.out / "documents").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist()[::3]:
            place, _, record = reextract.record_of(folder, row)
            (batch, _), *_ = batches([record], row["source"])
            made, _, _ = chain.run(batch, chain.books())
            again = edits.again(run, place, row["origin"], made)
            cut += again is not made
            assert again.column("text").to_pylist() == [row["text"]]
    assert cut > 3


def test_settings_that_cannot_be() -> None:
    """A typing error would cut a corpus to pieces, or nothing of it."""
    data = {"name": "x", "inputs": [{"source": "a", "path": "a.jsonl"}]}
    for wrong in ({"tokens": 3}, {"min_documents": 3, "max_documents": 2}, {"token": 50}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            check(data | {"dedup": {"substrings": wrong}}, "recipe", Path())
