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


@command("browse")
def browse(
    folder: RunFolder,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port to listen on; 0: a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", metavar="NAME", help="Who labels documents. [default: the user's name]")
    ] = None,
) -> int:
    """Look at the documents of a run in a browser, and judge them: a local page, served to this machine only.

    Filter by source, language, reason, host and the range of any score; search in text; see a document's raw page
    beside its text and tokens, its duplicates with the differences, and what each stage made of it. Keys g and b
    label a document as good or bad, in a sample by chance one after the other; labels lie in DIR/labels and are what
    `corpusmill classifier train --labels DIR` reads. Ctrl-C ends it.

    Example: corpusmill browse runs/demo --reviewer ann
    """
    import getpass
    import webbrowser

    from pipeline.look.extra import look_extra

    with look_extra("corpusmill browse"):
        from pipeline.look.browse.document import Library
        from pipeline.look.browse.server import listen, serve

    library = Library.of(folder)
    screen = console()
    try:
        name = reviewer or getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        name = "unknown"

    def ready(address: str) -> None:
        screen.print(f"{folder} is at {address} (Ctrl-C ends)", markup=False, highlight=False)
        sys.stdout.flush()
        if not no_open:
            webbrowser.open(address)

    try:
        serve(library, listen(port), name, ready)
    except KeyboardInterrupt:
        screen.print("ended", highlight=False)
    return 0
