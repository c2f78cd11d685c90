"""The frame of the command line: the application, what its commands share, and how they fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.errors import UserError

EXIT_CODES = """
Exit codes: 0 done; 1 failed, what is committed stays; 2 a recipe or argument that cannot be worked with; 3 the run
broke an expectation (a drop rate outside its band, an incomplete input); 4 damaged files were found; 75 another run
works in the folder; 130 and 143 stopped by Ctrl-C and SIGTERM, run again to go on.
"""

app = typer.Typer(
    help="From raw crawls to a trained language model: accounted, reproducible, traceable.\n\n" + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file, see configs/.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Change one setting; a stage is addressed by name (repeatable)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def console(*, stderr: bool = False) -> Console:
    """A console that writes plain, unwrapped lines where it is not a terminal."""
    made = Console(stderr=stderr, soft_wrap=True, emoji=False)  # `:100:` in a message is no emoji
    if made.is_terminal:
        return made
    return Console(stderr=stderr, soft_wrap=True, emoji=False, width=160, color_system=None)


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command whose UserErrors become one message on stderr and their exit code."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                code = function(*args, **kwargs)
            except UserError as error:
                console(stderr=True).print(f"corpusmill: {error}", markup=False, highlight=False)
                raise typer.Exit(error.exit_code) from None
            except ImportError as error:
                console(stderr=True).print(
                    f"corpusmill: the installation is not whole: {error}. Install it again.",
                    markup=False,
                    highlight=False,
                )
                raise typer.Exit(1) from None
            except BrokenPipeError:  # `corpusmill dropped DIR | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(0) from None
            if code:
                raise typer.Exit(code)

        return app.command(name, **settings)(guarded)

    return register
