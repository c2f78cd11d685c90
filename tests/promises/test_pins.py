"""A run that met a limit on time says so, and its pins make it reproducible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import promise_helpers as help
import pytest

from pipeline.errors import RecipeError
from pipeline.recipe import read_recipe

ENV = {"PYTHONPATH": str(help.ROOT / "tests" / "pipeline")}  # where the bad stage lies
TEXT = "A note about the rivers of the north and the towns along their banks, number "


def _recipe(folder: Path, **changes: Any) -> Path:
    """A recipe over notes, of which one hangs where the machine is slow, and one crashes."""
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{TEXT}{number}", "url": f"https://example.org/{number}"} for number in range(20)]
    rows.insert(7, {"text": f"heavy {folder / 'fast-machine'}", "url": "https://example.org/slow"})
    rows.insert(12, {"text": "crash", "url": "https://example.org/crash"})
    (folder / "notes" / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    entry = {"source": "notes", "path": str(folder / "notes" / "*.jsonl"), "format": "jsonl"}
    data = {"name": "notes", "inputs": [entry], "stages": [{"bad_stage:Bad": {}}, {"normalize": {}}]}
    return help.write_recipe(folder / "notes.yaml", data | changes)


def _run(recipe: Path, out: Path) -> str:
    status, output = help.run("run", recipe, "--out", out, "--workers", 1, env=ENV)
    assert status == 0, output
    return output


def _documents(out: Path) -> list[Any]:
    return sorted((row["id"], row["text"]) for row in help.rows(out, "documents"))


def _pins(out: Path) -> list[Any]:
    return list(json.loads((out / "pins.json").read_text())["pins"])


def test_pins_make_a_run_that_met_a_limit_reproducible(tmp_path: Path) -> None:
    """A page that a slow machine gave up on would come and go between runs, and nobody would be told; or it could
    never be won back."""
    recipe = _recipe(tmp_path)
    out, again = tmp_path / "out", tmp_path / "again"
    assert "only with its pins" in _run(recipe, out)
    pinned = _pins(out)
    assert [pin["id"] for pin in pinned] == sorted(pin["id"] for pin in pinned)
    assert {pin["url"]: (pin["stage"], pin["reason"], pin["limit"], pin["file"]) for pin in pinned} == {
        "https://example.org/slow": ("bad", "cpu_time", 1.0, "a.jsonl"),
        "https://example.org/crash": ("bad", "crashed", None, "a.jsonl"),
    }
    facts = help.inspect(out)
    assert facts["reasons"] == {"bad.cpu_time": 1, "bad.crashed": 1}
    assert facts["pins"] == 2
    documents = _documents(out)
    assert len(documents) == 20

    (tmp_path / "fast-machine").touch()  # from now on that page would not hang
    content = (out / "pins.json").read_bytes()
    shutil.rmtree(out / "clean")  # the unit is done again, as the same recipe in the same folder
    assert "only with its pins" in _run(recipe, out)
    assert _documents(out) == documents
    assert (out / "pins.json").read_bytes() == content

    shutil.copy(out / "pins.json", tmp_path / "their-pins.json")
    assert "only with its pins" in _run(_recipe(tmp_path, pins="their-pins.json"), again)
    assert _documents(again) == documents
    assert (again / "pins.json").read_bytes() == content

    more = [{"bad_stage:Bad": {"seconds": 2}}, {"normalize": {}}]  # another limit: the page is tried again
    _run(_recipe(tmp_path, stages=more), out)
    assert len(_documents(out)) == 21
    assert help.inspect(out)["reasons"] == {"bad.crashed": 1}
    assert len(_pins(out)) == 3  # what was known stays known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["there is no file"]),
        ("not json", ["is no file of pins"]),
        ('{"format_version": 9, "pins": []}', ["pin format 9"]),
        ('{"format_version": 1, "pins": [{"id": "12"}]}', ["broken"]),
        ("OTHER", ["stage 'extract'", "not there"]),
    ],
)
def test_broken_pins_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: list[str]
) -> None:
    """A wrong path would silently make another corpus than the one to be reproduced."""
    other = {
        "id": "0" * 32, "stage": "extract", "reason": "cpu_time", "limit": 5.0, "source": "web", "url": None,
        "file": "a", "offset": 0, "made_by": "x", "versions": {},
    }  # fmt: skip
    if text is not None:
        text = json.dumps({"format_version": 1, "pins": [other]}) if text == "OTHER" else text
        (tmp_path / "their-pins.json").write_text(text)
    recipe = _recipe(tmp_path, pins="their-pins.json")
    monkeypatch.syspath_prepend(ENV["PYTHONPATH"])
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe)
    for word in ("pins: ", "their-pins.json", *words):
        assert word in str(caught.value)
