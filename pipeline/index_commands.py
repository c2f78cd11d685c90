"""The commands `index show` and `index merge`, on the memory of deduplication (`dedup.index` in a recipe)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.app import AsJson, app, command, console
from pipeline.storage.address import is_remote

group = typer.Typer(
    help="Look at and merge indexes of deduplication (dedup.index in a recipe).", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
app.add_typer(group, name="index")


def _place(text: str) -> Path | str:
    return text.rstrip("/") if is_remote(text) else Path(text)


@command("show", group=group)
def show_index(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The index: a folder, or an address.")],
    check: Annotated[bool, typer.Option("--check", help="Read every file, and compare it with its digest.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show the crawls that an index remembers, oldest first, and what signatures and keys it compares by.

    Ends with 4 where --check finds damage.

    Example: corpusmill index show runs/index --check
    """
    from pipeline import index
    from pipeline.errors import UserError

    there = index.Index.read(_place(folder))
    if there is None:
        raise UserError(f"{folder} is no index of deduplication: it has no {index.NAME}")
    damage = there.damage() if check else []
    facts: dict[str, Any] = {
        "parameters": there.parameters,
        "generations": [
            {"name": one.name, "documents": one.documents, "parts": len(one.parts), "digest": one.digest}
            for one in there.generations
        ],
        "damage": damage,
    }
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return 4 if damage else 0
    screen = console()
    table = Table("crawl", "documents", "parts", "digest", title=f"Index {folder}, oldest first", title_justify="left")
    for one in facts["generations"]:
        table.add_row(one["name"], f"{one['documents']:,}", str(one["parts"]), one["digest"])
    screen.print(table)
    exact, near = there.parameters["exact"], there.parameters["near"]
    screen.print(f"compared by: record{''.join(', ' + kind for kind in exact)}", highlight=False)
    if near:
        screen.print(
            f"near duplicates: {near['ngram']}-grams, {near['permutations']} permutations, {near['bands']} bands of "
            f"{near['rows']} rows, threshold {near['threshold']} by {'shingle sets' if near['exact'] else 'estimate'}",
            highlight=False,
        )
    for problem in damage:
        screen.print(problem, style="red", markup=False, highlight=False)
    if check and not damage:
        screen.print("every file is what it was", highlight=False)
    return 4 if damage else 0


@command("merge", works=True, group=group)
def merge_indexes(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="The indexes, oldest first.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="The index to write, in a new folder.")],
) -> None:
    """Merge indexes that were made apart, so that a later crawl is deduplicated against all of them.

    What was published from any of them stays published: their documents are not compared with one another. A later
    document that resembles several loses to the oldest. All must have been made with the same parameters.

    Example: corpusmill index merge team-a/index team-b/index --out index
    """
    from pipeline import index

    merged = index.merge([_place(folder) for folder in folders], _place(out))
    console().print(
        f"made: {out}: {len(merged.generations)} crawls, "
        f"{sum(one.documents for one in merged.generations):,} documents",
        highlight=False,
    )
