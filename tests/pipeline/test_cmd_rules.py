"""`corpusmill inspect --rules` and `--what-if`: limits can be chosen from a run instead of by more runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from small_run import run_here

from pipeline.app import console
from pipeline.errors import RecipeError, UserError
from pipeline.look import rules
from pipeline.look.overview import overview

LINES = ["the cat and a dog of that house have been with us to be sure today"]


def run_with(folder: Path, **settings: object) -> Path:
    """A run over texts of 16 to 320 words, and one whose words are numbers."""
    texts = [*(" ".join(LINES * times) for times in range(1, 21)), "1234 5678 " * 40 + LINES[0]]
    crawl = folder / "notes.jsonl"
    crawl.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    stages = [{"gopher_quality": {"min_words": 50, **settings}}, {"gopher_repetition": {"max_top_2": 0.5}}]
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"inputs": [{"source": "notes", "path": "notes.jsonl"}], "stages": stages}))
    out = folder / f"run-{len(settings)}"
    run_here(recipe, out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_with(tmp_path_factory.mktemp("rules"))


def test_values_are_shown_beside_their_limits(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a user would set limits in the dark."""
    rows = {(row["stage"], row["setting"]): row for row in rules.overview(run)}
    words = rows["gopher_quality", "min_words"]
    assert (words["limit"], words["reached"], words["broken"], words["broken_alone"]) == (50, 21, 3, 3)
    assert (words["quantiles"]["0.0"], words["quantiles"]["1.0"]) == (16, 320)
    letters = rows["gopher_quality", "min_alphabetic"]
    assert (letters["broken"], letters["broken_alone"]) == (1, 1)
    assert rows["gopher_repetition", "max_repeated_5"]["reached"] == 17
    rules.print_rules(list(rows.values()), console())
    assert "gopher_repetition: values of the 17 documents" in capsys.readouterr().out


@pytest.mark.parametrize("least", [1, 31, 100, 1000])
def test_what_if_is_what_another_run_keeps(run: Path, least: int, tmp_path: Path) -> None:
    """Else a limit that was chosen so would keep another corpus than it promised."""
    (found,) = rules.what_if(run, [f"stages.gopher_quality.min_words={least}"])
    assert (found["kept"], found["limit"]) == (17, 50)
    again = run_with(tmp_path, min_words=least)
    (step,) = [step for step in overview(again)["funnel"] if step["stage"] == "gopher_quality"]
    assert found["would_keep"] == step["kept"]
    assert found["kept"] + found["would_stay"] - found["would_go"] == found["would_keep"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("gopher_quality.min_word=3", "no such limit. Did you mean 'gopher_quality.min_words'"),
        ("gopher_quality.min_words", "give a number"),
        ("gopher_quality.min_words=few", "give a number"),
        ("gopher_quality.min_words=-3", "min_words: input should be greater than or equal to 0, found -3"),
        ("gopher_quality.max_words=10", r"min_words \(50\) is above max_words \(10\)"),
    ],
)
def test_a_wrong_change_is_named(run: Path, change: str, says: str) -> None:
    """Else a typo would seem to change nothing."""
    with pytest.raises(RecipeError, match=says):
        rules.what_if(run, [change])


def test_a_run_without_measures_says_so(run: Path, tmp_path: Path) -> None:
    """Else a user would see an empty table, and think that no document was judged."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for part in (copy / "ledger" / "rows" / "clean").iterdir():
        part.write_text(part.read_text().replace("measures/", "other/"))
    with pytest.raises(UserError, match="no stage of the run"):
        rules.overview(copy)
