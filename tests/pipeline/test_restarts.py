"""How often workers may die: three times in a phase of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from small_run import write_recipe

from pipeline import driver
from pipeline.errors import UserError
from pipeline.recipe import read_recipe
from pipeline.show import Display
from pipeline.work import Context


def lives(monkeypatch: pytest.MonkeyPatch, phases: list[str], done: dict[str, int] | None) -> None:
    """Has the working process die once in each of these phases; then, with `done`, it ends well."""
    left: Iterator[str] = iter(phases)

    def attempt(
        context: Context, request: object, display: object, lock: object, desk: Path, nurseries: object, *, again: bool
    ) -> dict[str, int] | None:
        desk.mkdir(parents=True)
        phase = next(left, None)
        if phase is None:
            return done
        (desk / "phase.json").write_text(json.dumps({"phase": phase, "pending": 1, "bytes": 1, "units": 1}))
        return None

    monkeypatch.setattr(driver, "_attempt", attempt)
    monkeypatch.setattr(driver.nursery, "available", lambda: False)  # nobody is forked here


@pytest.mark.parametrize(
    ("phases", "given_up"),
    [
        (["clean"] * 3 + ["signatures"] * 3 + ["shard"] * 3, None),
        (["clean"] * 4, "workers died 4 times in phase clean"),
        (["index", *["clean"] * 3, *["tokenise"] * 4], "workers died 4 times in phase tokenise"),
    ],
)
def test_each_phase_may_lose_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: list[str], given_up: str | None
) -> None:
    """Else a unit that kills its worker would be tried for ever, or a run of weeks end over a death now and then."""
    lives(monkeypatch, phases, {"clean": 1})
    context = Context(tmp_path / "run", tmp_path, read_recipe(write_recipe(tmp_path)))
    with (tmp_path / "said").open("w") as said, Display(Console(file=said, width=200)) as display:
        if given_up:
            with pytest.raises(UserError, match=given_up):
                driver.run(context, driver.RunRequest(), display)
        else:
            assert driver.run(context, driver.RunRequest(), display) == {"clean": 1}
    assert (tmp_path / "said").read_text().count("A worker died") == len(phases) - bool(given_up)
