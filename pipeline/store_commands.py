"""The command `fetch`: a run that lies at an address, copied to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import command, console


@command("fetch", works=True)
def fetch(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A run: what `corpusmill run --out` was given.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to copy it to; a new one.")],
    what: Annotated[
        str, typer.Option("--what", metavar="WHAT", help="run: all of it; corpus: shards, tokenizer, corpus.json.")
    ] = "run",
) -> None:
    """Copy a run, or its corpus alone, from an address to a folder of this machine.

    Every file is checked by its digest. Stopped, the same command goes on where it was. The folder is then a run
    folder like any other, for the commands that read files in place.

    Example: corpusmill fetch s3://bucket/runs/web runs/web
    Example: corpusmill fetch s3://bucket/runs/web corpora/web --what corpus
    """
    from pipeline.show import size_text
    from pipeline.store import fetching

    done = fetching.fetch(address.rstrip("/"), folder, what)
    console().print(
        f"copied {address} to {folder}: {done.files:,} files ({size_text(done.bytes)}), {done.there:,} were there",
        markup=False, highlight=False,
    )  # fmt: skip
