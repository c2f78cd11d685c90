"""What `corpusmill trace` prints of the facts that `pipeline.look.trace` finds."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.look.runfolder import one_line, origin_text, printable


def print_token(facts: dict[str, Any], console: Console) -> None:
    """A token, its document, its record, and whether the record gives the same tokens again."""
    token, document = facts["token"], facts["document"]
    start, end = document["tokens"]
    what = "the boundary token" if token["boundary"] else f"token {token['place']} of {end - start}"
    _say(console, f"token {token['position']} of {token['shard']}: id {token['id']}, {what} of its document")
    print_document(document, console)
    _field(console, "copy", f"{document['copy']}, tokens {start} to {end - 1} of the shard")
    text = facts["text"]
    console.print("  text")
    shown = Text(printable(text["before"]))
    shown.append(f"⟦{'boundary' if token['boundary'] else printable(text['token'])}⟧", style="bold reverse")
    shown.append(printable(text["after"]))
    console.print(shown)
    again = facts["again"]
    if again["equal"]:
        _say(console, f"extracted again from {again['file']}: the same {end - start - 1} tokens", "green")
        for change in again["other_versions"]:
            _say(console, f"  although {change}", "yellow")
    elif again["equal"] is None:
        _say(console, f"not extracted again: {again['why']}", "yellow")
    else:
        _say(console, f"extracted again, it is not the same: {again['why']}", "red")


def print_document(document: dict[str, Any], console: Console) -> None:
    """What is known of a document."""
    _field(console, "document", document["id"])
    for name in ("source", "url", "date", "title", "language"):
        if document.get(name) is not None:
            _field(console, name, one_line(str(document[name])))
    given = ", ".join(f"{name} {_value(value)}" for name, value in document["scores"].items())
    _field(console, "scores", given or "none")
    _field(console, "origin", origin_text(document["origin"]))


def _value(value: Any) -> str:
    """A score; of one with fields those that are not 0. One that was read from a page may hold anything."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} {_value(one)}" for name, one in value.items() if one) + "}"
    return f"{value:.6g}" if isinstance(value, float) else one_line(str(value))


def print_found(facts: dict[str, Any], console: Console) -> None:
    """A document's place and copies, or why it was dropped."""
    _say(console, f"{facts['id']}: {_FATES[facts['fate']]}")
    for document in facts["documents"]:
        print_document(document, console)
        if document["part"]:
            _field(console, "part", document["part"])
    for copy in facts["copies"]:
        span = f"tokens {copy['token_start']} to {copy['token_end'] - 1}"
        _field(console, "in shard", f"{copy['shard']} ({copy['split']}), {span}, copy {copy['copy']}")
    if facts["documents"] and not facts["copies"]:
        _field(console, "in shard", "none: there are no shards, or the mixture did not take it")
    for row in facts["dropped"]:
        print_dropped(row, console)
    for row in facts["beat"]:
        similar = f", similarity {row['similarity']:g}" if row["similarity"] is not None else ""
        _field(console, "kept before", f"{row['id']} ({row['reason']}{similar}) {one_line(row['url'])}")
    if "steps" in facts:
        print_steps(facts["steps"], console)


_FATES = {
    "kept": "kept",
    "dropped": "dropped",
    "waiting": "passed the stages; the run is not complete, deduplication has not come to it",
}


def print_dropped(row: dict[str, Any], console: Console) -> None:
    """Why and where a record was dropped."""
    figure = f", {row['value']:g}" if row["value"] is not None else ""
    limit = f" against the limit {row['limit']:g}" if row["limit"] is not None else ""
    _field(console, "dropped", f"by {row['stage']}: {row['reason']}{figure}{limit}")
    _field(console, "source", row["source"])
    if row["url"]:
        _field(console, "url", one_line(row["url"]))
    _field(console, "origin", origin_text(row["origin"]))
    if row["survivor"]:
        _field(console, "lost to", f"{row['survivor']} {one_line(row.get('survivor_url'))}")


def print_steps(uses: list[dict[str, Any]], console: Console) -> None:
    """The training steps that read a document."""
    if not uses:
        _say(console, "no training step read it so far")
    for use in uses:
        again = f", attempt {use['attempt']}" if use["attempt"] else ""
        span = f"tokens {use['token_start']} to {use['token_end'] - 1} of {use['shard']}"
        place = f"sequence {use['row']} from {use['column']}"
        _say(console, f"  step {use['step']}{again}: {span}, copy {use['copy']}, in {place}")


def print_urls(rows: list[dict[str, Any]], console: Console) -> None:
    """The records of a URL."""
    for row in rows:
        fate = "kept" if row["fate"] == "kept" else f"dropped ({row['reason']})"
        _say(console, f"{row['id']}: {fate}")
        _field(console, "source", row["source"])
        _field(console, "url", one_line(row["url"]) + ("" if row["exact"] else " (another spelling)"))
        _field(console, "origin", origin_text(row["origin"]))
        if row.get("survivor"):
            _field(console, "lost to", row["survivor"])


def print_batch(uses: list[dict[str, Any]], console: Console) -> None:
    """The documents of a training step: a line for each piece."""
    if uses:
        first = uses[0]
        documents = len({use["document"] for use in uses})
        tokens = sum(use["token_end"] - use["token_start"] for use in uses)
        _say(
            console,
            f"step {first['step']} (attempt {first['attempt']}, data step {first['data_step']}) reads {tokens} tokens "
            f"of {documents} documents in {1 + max(use['row'] for use in uses)} sequences",
        )
    for use in uses:
        span = f"{use['shard']}:{use['token_start']}-{use['token_end'] - 1}"
        place = f"sequence {use['row']} from {use['column']}"
        _say(console, f"  {use['document']}  {use['source']}  {span}  {place}  {one_line(use['url']) or 'no URL'}")


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, markup=False, highlight=False, style=style)


def _field(console: Console, name: str, value: str) -> None:
    _say(console, f"  {name:<12}{value}")
