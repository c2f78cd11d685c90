"""The command `plan-run`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import AsJson, RecipePath, Set, command, console, folder
from pipeline.errors import RecipeError


@command("plan-run")
def plan_run(
    recipe: RecipePath,
    crawl: Annotated[
        str, typer.Option("--crawl", metavar="SIZE", help="How much there is to read: '3.2e9 pages', or 90TB.")
    ],
    machines: Annotated[
        str, typer.Option("--machines", metavar="NxM", help="Machines x cores of each: 64x32. One machine: 1x16.")
    ],
    word: Annotated[list[str] | None, typer.Argument(metavar="[pages]", hidden=True)] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="The folder of a finished (trial) run of the recipe. [default: runs/NAME-trial, else runs/NAME]",
            parser=folder,
        ),
    ] = None,
    set_: Set = None,
    file_size: Annotated[
        str | None,
        typer.Option("--file-size", metavar="SIZE", help="Mean size of the crawl's files. [default: as the run's]"),
    ] = None,
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Memory of a machine.")] = "128GiB",
    disk: Annotated[str, typer.Option("--disk", metavar="SIZE", help="A machine's own disk.")] = "2TB",
    network: Annotated[str, typer.Option("--network", metavar="SPEED", help="A machine's network.")] = "10Gbit",
    busy: Annotated[
        float,
        typer.Option(
            "--busy", metavar="F", min=1, help="CPU time when all cores of a machine work, by that when one does."
        ),
    ] = 1.0,
    price: Annotated[
        float | None, typer.Option("--price", metavar="X", min=0, help="What a machine costs for an hour.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recipe will take on a crawl and machines that are not here: hours, disk, memory, cost, and what fails
    first.

    It scales what a finished run of the recipe cost, phase by phase; a trial of some thousand pages does. The formula
    of each line, and where its constants come from, is in pipeline/planning/README.md.

    Example: corpusmill plan-run configs/demo.yaml --from runs/demo --crawl 3.2e9 pages --machines 64x32 --file-size 1GB
    """
    from pipeline.planning import asked, forecast, measured, view
    from pipeline.recipe import read_recipe

    text = " ".join([crawl, *(word or [])])
    wanted = asked.crawl(text)
    if file_size is not None:
        wanted = replace(wanted, file_size=asked.size("--file-size", file_size))
    count, cores = asked.machines(machines)
    there = asked.Machines(
        count,
        cores,
        asked.size("--memory", memory),
        asked.size("--disk", disk),
        asked.speed("--network", network),
        busy,
        price,
    )
    checked = read_recipe(recipe, set_, bind=False)
    plan = forecast.plan(measured.read(run or _usual(recipe, checked.name)), checked, wanted, there)
    if as_json:
        print(json.dumps(view.facts(plan), indent=1, ensure_ascii=False))
    else:
        view.show(plan, console())


def _usual(recipe: Path, name: str) -> Path:
    """Where `corpusmill run` puts a recipe's trial, or the whole. Raises RecipeError where neither is finished."""
    from pipeline.ledger import Ledger

    places = [Path("runs") / f"{name}-trial", Path("runs") / name]
    for place in places:
        if Ledger(place).complete() is not None:
            return place
    raise RecipeError(
        f"plan-run scales what a run of the recipe cost, and neither {places[0]} nor {places[1]} holds a finished one. "
        "Give another folder with --from, or make a small run, some thousand pages:\n"
        f"  corpusmill run {recipe} --limit 5000"
    )
