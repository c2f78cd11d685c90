"""The commands `tokenizer train` and `tokenizer report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from pipeline.app import AsJson, RecipePath, RunFolder, Set, app, command, console

group = typer.Typer(
    help="Train a tokenizer, and see what it makes of a corpus.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(group, name="tokenizer")


@command("train", works=True, group=group)
def train(
    recipe: RecipePath,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run folder. [default: runs/NAME]")
    ] = None,
    set_: Set = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Worker processes. [default: all cores]")
    ] = None,
) -> None:
    """Run a recipe as far as its tokenizer, and show what that makes of the corpus.

    Clean, deduplicate and train; no tokens, no shards. `corpusmill run` on the same folder goes on from there, and
    another setting of the tokenizer (--set tokenizer.train.vocabulary=64000) redoes the training alone.

    Example: corpusmill tokenizer train configs/demo.yaml --out runs/demo
    """
    from pipeline import driver
    from pipeline.errors import RecipeError
    from pipeline.recipe import read_recipe
    from pipeline.show import Display
    from pipeline.sources import input_files
    from pipeline.work import Context

    request = driver.RunRequest(workers, recipe=str(recipe), until="tokenizer")
    checked = read_recipe(recipe, set_, bind=not request.forks)
    if checked.tokenizer is None:
        raise RecipeError(f"{recipe} has no `tokenizer` section: add `tokenizer: {{train: {{vocabulary: 32000}}}}`")
    input_files(checked)
    target = (out or Path("runs") / checked.name).resolve()
    screen = console()
    with Display(screen) as display:
        driver.run(Context(target, recipe.parent.resolve(), checked), request, display)
    facts = _facts(target)
    print_report(facts, screen)
    screen.print(f"made: {target / facts['file']}", highlight=False)


@command("report", group=group, looks_at=("tokenizer",))
def report(folder: RunFolder, as_json: AsJson = False) -> None:
    """Show what a run's tokenizer makes of its corpus: characters a token by language and source, tokens of no use.

    Example: corpusmill tokenizer report runs/demo
    """
    facts = _facts(folder)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        print_report(facts, console())


def _facts(folder: Path) -> dict[str, Any]:
    """The report that phase tokenizer committed, with what the tokenizer is."""
    from pipeline.errors import DamageError, UserError
    from pipeline.tokenizers.files import FACTS, REPORT

    found: dict[str, Any] = {}
    for name in (FACTS, REPORT):
        try:
            found |= json.loads((folder / name).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder} has no tokenizer: there is no {name}. Run its recipe") from error
        except (OSError, ValueError, TypeError) as error:
            raise DamageError(f"{folder / name} cannot be read: {error}; `corpusmill verify` says more") from error
    if lacking := [name for name in _SHOWN if name not in found]:
        raise DamageError(f"{folder / REPORT} has no `{lacking[0]}`; `corpusmill verify` says more")
    return found


_SHOWN = ("kind", "engine", "vocabulary", "digest", "sample", "sources", "languages", "tokens")
"""What the two files must hold to be shown."""


def print_report(facts: dict[str, Any], screen: Console) -> None:
    """What `_facts` found, as tables."""
    from pipeline.look.runfolder import one_line
    from pipeline.look.tables import percent, table

    whole, tokens = facts["sample"], facts["tokens"]
    engine = facts["engine"]
    why = f"; not by a faster one: {engine['why']}" if engine["why"] else ""
    lines = [
        f"tokenizer: {facts['kind']}, {facts['vocabulary']:,} tokens, digest {facts['digest']}",
        f"tokens are made by: {engine['name']}{one_line(why)}",
        f"looked at: {whole['documents']:,} documents, {whole['bytes']:,} bytes of the corpus; texts that do not come "
        f"back from their tokens: {whole['not_reversible']:,}",
    ]
    for line in lines:
        screen.print(line, markup=False, highlight=False)
    for title, groups in (("By language", facts["languages"]), ("By source", facts["sources"])):
        made = table(
            title, title.rpartition(" ")[2], "documents", "tokens", "characters a token", "bytes a token",
            "tokens a word", "unknown", "single bytes",
        )  # fmt: skip
        for name, one in groups.items():
            made.add_row(
                name, f"{one['documents']:,}", f"{one['tokens']:,}", _ratio(one["characters"], one["tokens"]),
                _ratio(one["bytes"], one["tokens"]), _ratio(one["tokens"], one["words"]),
                percent(one["unknown"], one["tokens"], 2), percent(one["byte_tokens"], one["tokens"], 2),
            )  # fmt: skip
        screen.print(made)
    ordinary = facts["vocabulary"] - tokens["special"]
    screen.print(
        f"of {ordinary:,} tokens that text can be, the sample uses {tokens['used']:,} "
        f"({percent(tokens['used'], ordinary)})", highlight=False,
    )  # fmt: skip
    made = table("Tokens to look at", "", "how many", "the longest", text=("the longest",))
    said = {
        "never": "never used in the sample",
        "rare": "used once or twice",
        "unreachable": "not made by their own text",
        "not_utf8": "no whole characters",
    }
    made.add_row("longest that are used", "", _shown(tokens["longest"]))
    for name, title in said.items():
        if tokens[name] is not None:
            made.add_row(title, f"{tokens[name]['count']:,}", _shown(tokens[name]["longest"]))
    screen.print(made)


def _ratio(part: int, whole: int | None) -> str:
    return f"{part / whole:.2f}" if whole else ""


def _shown(tokens: list[dict[str, Any]]) -> Text:
    from pipeline.look.runfolder import one_line

    texts = [one_line(one["text"]) for one in tokens[:8]]
    return Text("  ".join(f"[{text if len(text) <= 24 else text[:23] + '…'}]" for text in texts))
