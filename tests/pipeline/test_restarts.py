"""How often workers may die: three times in a phase of a run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_run import write_recipe

from pipeline import driver
from pipeline.errors import UserError
from pipeline.forks import Forked
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


@pytest.mark.skipif(not driver.nursery.available(), reason="processes are forked on Linux only")
def test_a_nursery_that_is_dead_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take it while the run waits for its lock; the same dead one would be asked again and again."""
    asked = driver.nursery.Nursery.working
    dead: list[int] = []

    def working(self: driver.nursery.Nursery, *words: Any, **settings: Any) -> Forked:
        if not dead:
            dead.append(self.group)
            os.kill(self.group, signal.SIGKILL)
            self._process.wait()
        return asked(self, *words, **settings)

    monkeypatch.setattr(driver.nursery.Nursery, "working", working)
    context = Context(tmp_path / "run", tmp_path, read_recipe(write_recipe(tmp_path)))
    with (tmp_path / "said").open("w") as said, Display(Console(file=said, width=200)) as display:
        done = driver.run(context, driver.RunRequest(workers=1), display)
    assert dead
    assert done["clean"] > 0
    assert (tmp_path / "said").read_text().count("A worker died") == 1


def test_every_phase_is_shown_once(tmp_path: Path) -> None:
    """Else phases that come and go between two looks would be missing, or stand there twice."""

    def facts(phase: str, *over: str, pending: int = 2) -> dict[str, Any]:
        told = [{"phase": name, "pending": 2, "seconds": 0.04} for name in over]
        return {"phase": phase, "units": 2, "pending": pending, "bytes": 1, "over": told}

    with (tmp_path / "said").open("w") as said, Display(Console(file=said, width=200)) as display:
        display.update(facts("index"), [])
        display.update(facts("index"), [])
        display.update(facts("host", "index", "clean", "lines"), [])
        display.close_phase()  # the attempt died
        display.update({}, [])
        display.update(facts("host"), [])
        display.update(facts("shard", "host", "plan"), [])
        display.close_phase(finished=True)
    lines = [line.split(" in ") for line in (tmp_path / "said").read_text().splitlines()]
    assert [line[0].split(maxsplit=1) for line in lines] == [
        ["index", "2 of 2 units done"],
        ["clean", "2 of 2 units done"],
        ["lines", "2 of 2 units done"],
        ["host", "0 of 2 units done"],
        ["host", "2 of 2 units done"],
        ["plan", "2 of 2 units done"],
        ["shard", "2 of 2 units done"],
    ]
