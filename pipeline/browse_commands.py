"""The commands `sql` and `browse`, which look into a run through a database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import RunFolder, command, console
from pipeline.errors import RecipeError

MOST = 100
"""Rows that a terminal is shown."""


@command("sql")
def sql(
    folder: RunFolder,
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="A query in DuckDB's SQL, or - to read it from stdin.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write the rows to a Parquet file.")
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=0, help="Most rows, 0 for all. [default: 100 on a terminal, else all]"),
    ] = None,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="What a query may use before it goes to disk.")
    ] = "1GB",
) -> None:
    """Query a run with SQL: the views documents, dropped, duplicates, measures, shards and labels.

    Without a query the views are listed with their columns. Ids are text; host(url) is the host of a URL. A query
    reads these views and no other file, and writes nothing. In a pipe rows are lines with tabs between.

    Examples: corpusmill sql runs/demo "select source, count(*), avg(characters) from documents group by all";
    corpusmill sql runs/demo "select reason, url, value from dropped where host(url) = 'example.org'";
    corpusmill sql runs/demo --parquet long.parquet "select * from documents where characters > 100000"
    """
    from pipeline.look import sql as work

    forms = {"--csv": as_csv, "--json": as_json, "--parquet": parquet is not None}
    chosen = [name for name, wanted in forms.items() if wanted]
    if len(chosen) > 1:
        raise RecipeError(f"{' and '.join(chosen)} are forms of their own; give one")
    asked = work.Asked.of(folder, memory)
    screen = console()
    if query is None:
        if chosen:
            raise RecipeError(f"{chosen[0]} needs a query")
        work.print_views(asked, screen)
        return
    query = sys.stdin.read() if query == "-" else query
    limit = most or None
    if as_csv:
        work.print_csv(asked, query, limit)
    elif as_json:
        work.print_json(asked, query, limit)
    elif parquet is not None:
        if most is not None:
            raise RecipeError("--parquet writes all rows: put a LIMIT into the query instead of -n")
        rows = work.write_parquet(asked, query, parquet)
        screen.print(f"{parquet}: {rows:,} rows", markup=False, highlight=False)
    else:
        work.print_table(asked, query, screen, MOST if most is None and screen.is_terminal else limit)
