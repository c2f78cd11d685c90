"""The commands on a corpus that is finished: `head`, `decode`, `merge`, `remove`, `card`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.app import AsJson, command, console, write_out
from pipeline.app import folder as run_folder
from pipeline.errors import RecipeError

MISSING = 20
"""Requests that name nothing, of which so many are shown."""
Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder of a run, or of a corpus without a ledger.", parser=run_folder),
]


@command("head", looks_at=("tokenizer",))
def head(
    folder: Folder,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Of this split. [default: train]")
    ] = None,
    most: Annotated[int, typer.Option("-n", metavar="N", min=1, help="So many documents.")] = 5,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="Of this group of the mixture (layout by_source).")
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=0, help="So many tokens of each document, 0 for all.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, and nothing else.")] = False,
) -> None:
    """Show the first documents of a split in the order in which training reads its shards, as text.

    Example: corpusmill head runs/demo --split validation -n 2
    """
    from pipeline.corpora import folder as folders
    from pipeline.corpora import showing

    corpus = folders.corpus_of(folders.opened(folder))
    found = showing.head(corpus, folders.tokenizer_of(corpus), split, most, group, tokens)
    _print_documents(found, as_json)


@command("decode", looks_at=("tokenizer",))
def decode(
    folder: Folder,
    place: Annotated[
        str | None,
        typer.Argument(metavar="[PLACE]", help="SHARD:POSITION or SHARD:FROM..TO; - for token ids on standard input."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", metavar="ID", help="The document of this id; the first digits do.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="IDS", help="Token ids, such as 17,4,2093; or - to read them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn tokens into text with the corpus's own tokenizer: of a place in a shard, of a document, or given ones.

    A boundary between documents is shown as a line of its own. On standard input each line is decoded by itself.

    Examples:
    corpusmill decode runs/demo train-00000-of-00003:1000..1100;
    corpusmill decode runs/demo --document 3f2a90;
    echo 17 4 2093 | corpusmill decode runs/demo -
    """
    from pipeline.corpora import folder as folders
    from pipeline.corpora import showing

    given = [name for name, value in (("PLACE", place), ("--document", document), ("--tokens", tokens)) if value]
    if len(given) != 1:
        raise RecipeError(f"give exactly one of PLACE, --document and --tokens, not {' and '.join(given) or 'none'}")
    corpus = folders.corpus_of(folders.opened(folder))
    model = folders.tokenizer_of(corpus)
    screen = console()
    if document is not None:
        _print_documents(iter(showing.document(corpus, model, document)), as_json)
    elif "-" in (place, tokens):
        for line in sys.stdin:
            if line.strip():
                _print_tokens(showing.given(corpus, model, showing.numbers(line)), screen, as_json=as_json)
    elif tokens is not None:
        _print_tokens(showing.given(corpus, model, showing.numbers(tokens)), screen, as_json=as_json)
    else:
        _print_tokens(showing.place(corpus, model, place or ""), screen, as_json=as_json)


@command("remove", works=True)
def remove(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="NEW", help="The corpus to write, in a new folder.")],
    url: Annotated[
        list[str] | None, typer.Option("--url", metavar="URL", help="Every record of this URL (repeatable).")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="D", help="Every URL of D and its subdomains (repeatable).")
    ] = None,
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="The document of this id, 32 digits (repeatable)."),
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option("--list", metavar="FILE", help="A request a line: url ..., domain ... or id ... (repeatable)."),
    ] = None,
    with_duplicates: Annotated[
        bool, typer.Option("--with-duplicates", help="Also all that deduplication found to be the same as they are.")
    ] = False,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Go on where a request names no document of the corpus.")
    ] = False,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day that the record names. [default: none]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a corpus anew without documents that somebody asked to have taken out, with a record of it.

    All their copies go, in all splits. Shards that held none of them stay as they are, to the byte. The new folder
    holds shards, documents, tokenizer, corpus.json, removed.json (what was asked and found) and takedown.txt: named in
    the recipe, as `- takedown: {lists: [takedown.txt]}` before all other stages, it keeps a later run from bringing
    them back.

    Example: corpusmill remove runs/demo --url https://example.org/page --domain example.net --out runs/demo-2
    """
    from pipeline.corpora import removal

    given = {"url": url or [], "domain": domain or [], "id": id_ or []}
    requests = removal.requests_of(given, lists or [])
    done = removal.remove(folder, requests, out, date=date, missing_ok=missing_ok, with_duplicates=with_duplicates)
    if as_json:
        print((out / removal.RECORD).read_text("utf-8"), end="")
        return
    screen = console()
    _say(
        screen,
        f"made: {out}: without {len(done.documents):,} documents, {done.copies:,} copies with {done.tokens:,} tokens; "
        f"{done.shards} shards written anew",
    )
    for request in done.missing[:MISSING]:
        _say(screen, f"not found: {request.line}", "yellow")
    if len(done.missing) > MISSING:
        _say(screen, f"and {len(done.missing) - MISSING:,} more, see {out / removal.RECORD}", "yellow")
    if done.duplicates:
        _say(
            screen,
            f"{done.duplicates:,} duplicates lost to them, of which a later run would keep one in the place of each; "
            "--with-duplicates names them all",
            "yellow",
        )
    _say(screen, f"for the recipe, before all other stages:  - takedown: {{lists: [{out / removal.LIST}]}}")


@command("merge", works=True)
def merge(
    corpora: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The corpora, the one that wins first.")],
    out: Annotated[Path, typer.Option("--out", metavar="NEW", help="The corpus to write, in a new folder.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name. [default: theirs, with + between]")
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="All documents in one new order, instead of shard behind shard.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="With --shuffle. [default: the first recipe's]")
    ] = None,
    tokens_per_shard: Annotated[
        int | None,
        typer.Option(
            "--tokens-per-shard",
            metavar="N",
            min=1000,
            max=100_000_000,
            help="With --shuffle: most tokens in a file. [default: the largest of the recipes']",
        ),
    ] = None,
    duplicates: Annotated[
        str, typer.Option("--duplicates", metavar="WHAT", help="Documents in several corpora: drop (first wins), keep.")
    ] = "drop",
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Although one trains on domains that another holds out.")
    ] = False,
) -> None:
    """Join corpora of one tokenizer into one: splits of one name together, equal documents (by id) once.

    Shards are linked under new names; those that lose documents are written anew, and all of them with --shuffle.
    Where a domain is held out in one corpus and trained on in another, nothing is written: such a validation split
    would measure what was learnt by heart.

    Example: corpusmill merge runs/web runs/books --out runs/both --shuffle
    """
    from pipeline.corpora import merging

    if duplicates not in ("drop", "keep"):
        raise RecipeError(f"--duplicates {duplicates}: give drop or keep")
    if not shuffle and (seed is not None or tokens_per_shard is not None):
        raise RecipeError("--seed and --tokens-per-shard belong to --shuffle")
    done = merging.merge(
        corpora, out, name=name, shuffle=shuffle, seed=seed, tokens_per_shard=tokens_per_shard,
        keep_duplicates=duplicates == "keep", allow_leaks=allow_leaks,
    )  # fmt: skip
    screen = console()
    what = "left out" if done.dropped else "kept"
    _say(screen, f"made: {out}: {done.shards} shards, {done.documents:,} documents, {done.tokens:,} tokens")
    _say(screen, f"copies of documents that an earlier corpus has: {done.equal:,}, {what}")
    if done.leaks.documents:
        _say(screen, f"accepted: {done.leaks.text()}", "yellow")


@command("card", works=True)
def card(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it. [default: print it]")
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="Of the compilation, by Hugging Face's name."),
    ] = None,
    contact: Annotated[
        str | None, typer.Option("--contact", metavar="WHOM", help="Who takes documents out: an address, a URL.")
    ] = None,
) -> None:
    """Write a dataset card (Hugging Face) from the books of a run: sources, funnel, filters, mixture, limits, recipe.

    As README.md in the folder, it lets `datasets.load_dataset(DIR)` load the documents, those of a source, and the
    tables of the shards.

    Example: corpusmill card runs/demo --out runs/demo/README.md --license odc-by --contact corpus@example.org
    """
    from pipeline.corpora import card as cards
    from pipeline.corpora import cardview
    from pipeline.corpora import folder as folders

    text = cardview.markdown(cards.facts(folders.opened(folder)), license_, contact)
    if out is None:
        print(text, end="")
        return
    write_out(out, text)
    console().print(f"written: {out}", markup=False, highlight=False)


def _print_documents(found: Iterator[dict[str, Any]], as_json: bool) -> None:
    from pipeline.look.runfolder import one_line, printable

    screen = console()
    for number, facts in enumerate(found):
        if as_json:
            print(json.dumps(facts, ensure_ascii=False))
            continue
        span = f"{facts['shard']}:{facts['token_start']}..{facts['token_end']}"
        copy = f", copy {facts['copy']}" if facts["copy"] else ""
        prefix = f", {facts['prefix_tokens']} of prefix" if facts["prefix_tokens"] else ""
        # A group is often the source or the language itself.
        place = ", ".join(dict.fromkeys(facts[name] for name in ("source", "group", "language") if facts[name]))
        _say(
            screen,
            f"{'' if not number else chr(10)}{span}  {facts['id']}  {facts['tokens']:,} tokens{prefix}{copy}",
            "bold",
        )
        _say(screen, one_line(f"{place}  {facts['url'] or 'no URL'}"), "dim")
        _say(screen, printable(facts["text"]) + ("" if facts["whole"] else " …"))


def _print_tokens(facts: dict[str, Any], screen: Console, *, as_json: bool) -> None:
    from pipeline.look.runfolder import printable

    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    for number, text in enumerate(facts["texts"]):
        if number:
            _say(screen, "⟦boundary⟧", "bold reverse")
        if text:
            _say(screen, printable(text))


def _say(screen: Console, text: str, style: str | None = None) -> None:
    screen.print(text, markup=False, highlight=False, style=style)
