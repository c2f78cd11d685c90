"""The command `report`: a run, or two beside each other, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import RunFolder, command, console, write_out
from pipeline.app import folder as run_folder
from pipeline.errors import RecipeError


@command("report", works=True, looks_at=("tokenizer",))
def report(
    folder: RunFolder,
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Another run, to be set beside it.", show_default=False, parser=run_folder
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page to write. [default: report.html in DIR]")
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price-per-cpu-hour", metavar="PRICE", min=0, help="Of one core, for costs in that currency."),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", metavar="N", min=0, max=50, help="Documents of a kind.")] = 5,
) -> None:
    """Write a run as one HTML page: funnel, drop reasons and rules with real documents, content, duplicates, cost.

    The page stands alone: charts that need no network, nothing that runs but its own two scripts. The texts of dropped
    documents are cut from the crawl again, where it still lies where the run read it. The same folder gives the same
    bytes. With a second run: what differs, and the documents that only one of them keeps.

    Examples: corpusmill report runs/demo; corpusmill report runs/demo runs/stricter --out compared.html
    """
    from pipeline.look.report import compare, single
    from pipeline.look.report.facts import Asked
    from pipeline.show import size_text
    from pipeline.store.mirror import address_of

    if out is None and address_of(folder):
        raise RecipeError(f"{address_of(folder)} is no folder of this machine; say with --out where to write the page")
    asked = Asked(price, examples)
    page = single.report(folder, asked) if other is None else compare.report(folder, other, asked)
    path = out or folder / ("report.html" if other is None else f"report-and-{other.resolve().name}.html")
    write_out(path, page)
    console().print(f"report: {path} ({size_text(path.stat().st_size)})", markup=False, highlight=False)
