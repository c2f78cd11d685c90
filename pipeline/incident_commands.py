"""The command that shows what the guard of a training run found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.app import AsJson, command, console
from pipeline.errors import UserError, counted

DONE = {"step": "left out the step", "end": "gave up"}


@command("incidents")
def incidents(
    folder: Annotated[Path, typer.Argument(metavar="CHECKPOINTS", help="The folder of a training run's checkpoints.")],
    number: Annotated[
        int, typer.Option("--documents", "-n", metavar="N", min=0, help="Documents to show of each incident.")
    ] = 3,
    everything: Annotated[
        bool, typer.Option("--all-documents", help="Also show documents that do not stand out.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the guard of a training run found: bad steps, what they were told by, and the documents at fault.

    Figures are beside the mean of the steps before, and how many standard deviations above it they are. The loss of a
    document is in nats per token.

    Examples:
    corpusmill incidents runs/demo-model;
    corpusmill incidents runs/demo-model -n 20 --json
    """
    rows = read(folder)
    if as_json:
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        return
    screen = console()
    if not rows:
        screen.print(f"no incidents in {folder}")
        return
    table = Table("", "step", "data step", "what", "was done", "documents that cost most (loss, sigmas)")
    for place, row in enumerate(rows, 1):
        shown = [one for one in row["documents"] if everything or one["stands_out"]][:number]
        table.add_row(
            str(place), f"{row['step']:,}", f"{row['data_step']:,}", _what(row), _done(row),
            "\n".join(_document(one) for one in shown),
        )  # fmt: skip
    screen.print(table)
    named = {document for row in rows for document in row["left_out"]}
    screen.print(
        f"{counted(len(rows), 'incident')}; {counted(len(named), 'document')} left out of all later steps",
        highlight=False,
    )


def read(folder: Path) -> list[dict[str, Any]]:
    """The incidents of a run. Raises UserError where there is no list of them."""
    from trainer.guard_settings import INCIDENTS
    from trainer.metrics import read as rows_of

    path = folder / INCIDENTS
    try:
        return rows_of(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}. Runs with a guard (`guard: {{}}` in the configuration) write it "
            "into their checkpoint.folder."
        ) from error


def _what(row: dict[str, Any]) -> str:
    found = []
    for why in row["why"]:
        figure = row["figures"].get(why)
        if figure is None:
            found.append({"documents": "documents that stand out", "not_finite": "not finite"}[why])
        else:
            found.append(f"{why.replace('_', ' ')}: {_number(figure['value'])}, usual {_number(figure['mean'])}"
                         f" ({_number(figure['sigmas'])} sigmas)")  # fmt: skip
    return "\n".join(found)


def _done(row: dict[str, Any]) -> str:
    if row["action"] == "rollback":
        return f"back to step {row['back_to']:,}"
    if row["action"] == "documents":
        return f"left out {counted(len(row['left_out']), 'document')}"
    return DONE[row["action"]]


def _document(row: dict[str, Any]) -> str:
    return f"{row['url'] or row['document']} ({_number(row['loss'])}, {_number(row['sigmas'])})"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"
