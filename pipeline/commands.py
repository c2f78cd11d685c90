"""The commands that look into a finished run, and the trainer's."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import RunFolder, command, console


@command("dropped")
def dropped(
    folder: RunFolder,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="R", help="A reason: gopher_quality.few_words, few_words, or a whole stage."),
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", metavar="S", help="Only what this stage dropped.")] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="S", help="Only records of this source.")] = None,
    most: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=0, help="At most N records, 0 for all. [default: 20; with --json all]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, and nothing else.")] = False,
) -> None:
    """List the records that were dropped: id, stage, reason, figure and limit, URL, place in the crawl, survivor.

    Without options, first how many there are for each reason. In a pipe each record is a line with tabs between:
    id, stage, reason, value, limit, source, URL, origin, survivor, the survivor's URL.

    Example: corpusmill dropped runs/demo --reason few_words -n 5
    """
    from pipeline import dropped as listing
    from pipeline.runfolder import RunFolder as Run

    run = Run(folder)
    chosen = listing.choose(run, reason, stage, source)
    screen = console()
    if not as_json and chosen == listing.Chosen() and most is None:
        listing.print_counts(run, screen)
    default = None if as_json else 20
    listing.print_records(run, chosen, default if most is None else most or None, screen, json_lines=as_json)
