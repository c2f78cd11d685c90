"""Inputs that a list names, as public crawls publish them: over HTTP and from a folder, with files that stay away."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback import Web, serving
from small_run import run_here

from pipeline.errors import PromiseError, RecipeError, UserError
from pipeline.ledger import Ledger
from pipeline.look.overview import overview
from pipeline.recipe import read_recipe
from pipeline.sources import input_files
from pipeline.work import Trial

NAMES = [f"crawl-data/part-{number}/texts.jsonl.gz" for number in range(6)]


@pytest.fixture
def web(tmp_path: Path, reach: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Web, str]]:
    """Six files of five records, their list beside them, and the address under which they are served."""
    monkeypatch.setenv("CORPUSMILL_TRIES", "3")
    for number, name in enumerate(NAMES):
        path = tmp_path / "web" / name
        path.parent.mkdir(parents=True)
        rows = [{"text": f"Document {number}-{row}. " + "Words of this very document. " * 40} for row in range(5)]
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))
    (tmp_path / "web" / "texts.paths.gz").write_bytes(gzip.compress("".join(f"{n}\n" for n in NAMES).encode()))
    app = Web(tmp_path / "web")
    with serving(app) as where:
        yield app, where


def recipe(folder: Path, **item: Any) -> Path:
    path = folder / "listed.yaml"
    data = {"name": "listed", "inputs": [{"source": "web", "format": "jsonl"} | item], "stages": [{"normalize": {}}]}
    path.write_text(yaml.safe_dump(data), "utf-8")
    return path


def over(where: str, folder: Path, **more: Any) -> Path:
    return recipe(folder, list=f"{where}/texts.paths.gz", base=f"{where}/", **more)


def test_files_that_stay_away_are_gaps_and_the_next_run_gets_them(web: tuple[Web, str], tmp_path: Path) -> None:
    """One missing file of ninety thousand must neither stop the others nor be forgotten."""
    app, where = web
    app.faults = {NAMES[0]: "gone", NAMES[1]: "down", NAMES[2]: "busy:2", NAMES[3]: "cut:2", NAMES[4]: "no-range"}
    out = tmp_path / "out"
    with pytest.raises(PromiseError) as told:
        run_here(over(where, tmp_path), out)
    assert told.value.exit_code == 3
    assert f"{where}/{NAMES[0]}: HTTP 404 Not Found" in str(told.value)
    assert f"{where}/{NAMES[1]}: HTTP 500 Internal Server Error" in str(told.value)
    facts = overview(out)
    assert facts["records"]["framed"] == facts["records"]["kept"] == 20
    assert sorted((gap["file"], gap["reason"]) for gap in facts["gaps"]) == [
        (f"{where}/{name}", "unavailable") for name in sorted(NAMES[:2])
    ]
    assert facts["complete"]

    app.faults = {NAMES[0]: "gone"}
    with pytest.raises(PromiseError, match="1 of the listed files stayed away"):
        run_here(over(where, tmp_path), out)
    assert overview(out)["records"]["kept"] == 25

    app.faults = {}
    done = run_here(over(where, tmp_path), out)
    assert done["index"] == done["clean"] == 1
    facts = overview(out)
    assert facts["records"]["kept"] == facts["records"]["framed"] == 30
    assert facts["gaps"] == []
    assert run_here(over(where, tmp_path), out) == {}


def test_a_file_that_breaks_off_for_good_after_it_was_indexed_is_a_gap_as_well(
    web: tuple[Web, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may refuse bytes of a file that it lists; half a file must not pass for the whole of it."""
    app, where = web
    app.faults = {NAMES[5]: "cut:1000"}
    out = tmp_path / "out"
    with pytest.raises(PromiseError, match="stayed away"):
        run_here(over(where, tmp_path), out)
    size = (tmp_path / "web" / NAMES[5]).stat().st_size
    assert [gap["length"] for gap in overview(out)["gaps"]] == [size]
    assert overview(out)["records"]["framed"] == 25
    app.faults = {}
    assert run_here(over(where, tmp_path), out)["clean"] == 1
    assert overview(out)["records"]["framed"] == 30


def test_allowing_incomplete_inputs_accepts_files_that_stay_away(web: tuple[Web, str], tmp_path: Path) -> None:
    """Whoever knows that a crawl has holes must be able to say so once."""
    app, where = web
    app.faults = {NAMES[0]: "gone"}
    run_here(over(where, tmp_path, allow_incomplete=True), tmp_path / "out")
    assert overview(tmp_path / "out")["gaps"][0]["reason"] == "unavailable"


def test_a_list_over_a_local_folder_gives_the_documents_of_the_list_over_http(
    web: tuple[Web, str], tmp_path: Path
) -> None:
    """A crawl that was mirrored must not become another corpus."""
    _, where = web
    run_here(over(where, tmp_path), tmp_path / "remote")
    there = recipe(tmp_path, list="web/texts.paths.gz", base="web")
    run_here(there, tmp_path / "local")
    (tmp_path / "web" / NAMES[3]).unlink()
    with pytest.raises(PromiseError, match=r"part-3/texts\.jsonl\.gz: No such file"):
        run_here(there, tmp_path / "local")
    names = ("reasons", "sources", "languages")
    assert overview(tmp_path / "remote")["sources"]["web"]["documents"] == 30
    assert overview(tmp_path / "local")["records"]["kept"] == 25
    run_here(over(where, tmp_path, allow_incomplete=True), tmp_path / "again")
    again, local = overview(tmp_path / "again"), overview(tmp_path / "local")
    assert {name: again[name] for name in names} == {name: local[name] for name in names}


def test_a_trial_looks_into_few_of_the_listed_files(web: tuple[Web, str], tmp_path: Path) -> None:
    """`--limit 50` over a whole crawl must not ask for each of its files."""
    app, where = web
    many = [f"none/{number}.jsonl.gz" for number in range(300)]
    (tmp_path / "web" / "texts.paths.gz").write_bytes(gzip.compress("\n".join(many).encode()))
    for name in many:
        path = tmp_path / "web" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps({"text": f"text of {name}"}).encode() + b"\n"))
    run_here(over(where, tmp_path), tmp_path / "out", trial=Trial(limit=5))
    assert overview(tmp_path / "out")["records"]["framed"] == 5
    asked = {path for _, path in app.seen if path.startswith("none/")}
    assert len(asked) == 8


def test_a_server_that_is_down_stops_the_run_at_once(web: tuple[Web, str], tmp_path: Path) -> None:
    """Else ninety thousand files would be waited for, one after the other."""
    lines = "".join(f"{number}.jsonl\n" for number in range(100))
    (tmp_path / "some.paths").write_text(lines)
    there = recipe(tmp_path, list="some.paths", base="http://127.0.0.1:9/")
    with pytest.raises(UserError, match="the first 8 of 100 listed files give no answer"):
        run_here(there, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"/etc/passwd\n", "no path below the base"),
        (b"a/../../secret\n", "no path below the base"),
        (b"https://elsewhere.example/x.gz\n", "no path below the base"),
        (b"\n", "names no file"),
        (b"\x1f\x8b\x08broken", "no list of paths"),
        (b"\xff\xfe", "no list of paths"),
    ],
)
def test_a_list_that_is_none_is_named_before_any_work(content: bytes, why: str, tmp_path: Path) -> None:
    """A list comes from the net: it must not lead to other files, or fail with a traceback."""
    (tmp_path / "paths.gz").write_bytes(content)
    with pytest.raises(RecipeError, match=why):
        input_files(read_recipe(recipe(tmp_path, list="paths.gz", base=".")))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({}, "either `path` or `list`"),
        ({"path": "x", "list": "y", "base": "z"}, "either `path` or `list`"),
        ({"list": "y"}, "`list` and `base` go together"),
        ({"list": "y", "base": "z", "format": None}, "`list` needs a `format`"),
        ({"list": "none.gz", "base": "z"}, r"none\.gz cannot be read: No such file"),
    ],
)
def test_a_wrong_input_is_named_before_any_work(item: dict[str, Any], why: str, tmp_path: Path) -> None:
    """A recipe must be checked in full, not fail after an hour."""
    with pytest.raises(RecipeError, match=why):
        input_files(read_recipe(recipe(tmp_path, **item)))


def test_ledger_and_recipe_tell_of_the_list_not_of_its_lines(web: tuple[Web, str], tmp_path: Path) -> None:
    """The recipe of a whole crawl must stay readable."""
    _, where = web
    run_here(over(where, tmp_path), tmp_path / "out")
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "texts.paths.gz" in text
    assert NAMES[0] not in text
    assert {row.body["input"]["name"] for row in Ledger(tmp_path / "out").rows("clean")} == set(NAMES)
