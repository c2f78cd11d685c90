"""The frame of the command line: the application, what its commands share, and how they fail."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer
from rich.console import Console

from pipeline.errors import RecipeError, UserError
from pipeline.failures import refusal
from pipeline.storage.address import is_remote

EXIT_CODES = """
Exit codes: 0 done; 1 failed, what is committed stays; 2 a recipe or argument that cannot be worked with; 3 the run
broke an expectation (a drop rate outside its band, an incomplete input); 4 damaged files were found; 70 a process of a
training run hung; 75 another run works in the folder; 130 and 143 stopped by Ctrl-C and SIGTERM, run again to go on;
141 nobody read the output to its end, as `head` does not (commands that work, as `run` and `train`, go on unheard).
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


class Address(str):
    """An address that was given where a folder is asked for."""


def folder(text: str) -> Path:
    """The folder that an argument names; an address is left to the command, see `command`."""
    return Address(text) if is_remote(text) else Path(text)  # type: ignore[return-value]


RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.", parser=folder)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Change one setting; a stage is addressed by name (repeatable)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def console(*, stderr: bool = False) -> Console:
    """A console that writes plain, unwrapped lines where it is not a terminal.

    `:100:` in a message is no emoji, and `[b]` in the name of a file no markup.
    """
    made = _Console(stderr=stderr, soft_wrap=True, emoji=False, markup=False)
    if made.is_terminal:
        return made
    return _Console(stderr=stderr, soft_wrap=True, emoji=False, markup=False, width=160, color_system=None)


def write_out(path: Path, data: str | bytes) -> None:
    """Writes a file that the user named, and the folder for it. Raises RecipeError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}") from error


class _Unheard:
    """A stream that goes on as if somebody read it when nobody does any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            _discard(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Sends what is still to come on a stream, and what waits in it, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _unheard() -> Iterator[None]:
    """While this lasts, it does not matter whether somebody reads what is printed."""
    heard = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Unheard(stream)) for stream in heard)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = heard


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to the command; rich would end the process with 1."""
        raise BrokenPipeError


def command(
    name: str,
    *,
    works: bool = False,
    group: typer.Typer = app,
    looks_at: tuple[str, ...] | None = None,
    **settings: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A command whose UserErrors become one message on stderr and their exit code.

    One that `works` does its work whether or not somebody reads what it prints; another ends with 141, as the shell
    has it for a command behind which a pipe broke (`corpusmill dropped DIR | head`).

    `looks_at`: the part folders that it reads whole of a run, which are then fetched first where the run lies at an
    address; other parts come when it asks for them. A command without it reads runs of this machine only.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            with _unheard() if works else nullcontext():
                _end(function, name, looks_at, *args, **kwargs)

        return group.command(name, **settings)(guarded)

    return register


def near(out: Path | str) -> Path:
    """The folder of a run; of one at an address, a folder with its ledger."""
    if isinstance(out, Path):
        return out
    from pipeline.store.mirror import mirrored

    return mirrored(out)


def _near(name: str, value: Any, looks_at: tuple[str, ...] | None) -> Any:
    """An argument of a command; of an address of a run, a folder with what the command looks at."""
    if not isinstance(value, Address):
        return value
    if looks_at is None:
        raise RecipeError(
            f"`corpusmill {name}` reads a run in place, and {value} is no folder of this machine. Copy the run first: "
            f"corpusmill fetch {value} DIR"
        )
    from pipeline.store.mirror import mirrored

    return mirrored(str(value), looks_at)


def needs_torch() -> None:
    """Raises UserError where torch is not installed."""
    if find_spec("torch") is None:
        raise UserError("models need torch; install it with `pip install 'corpusmill[train]'`")


def _end(
    function: Callable[..., Any], name: str, looks_at: tuple[str, ...] | None, /, *args: Any, **kwargs: Any
) -> None:
    """Calls a command and raises typer.Exit with its exit code, having said why where that is not 0."""
    try:
        code = function(*args, **{key: _near(name, value, looks_at) for key, value in kwargs.items()})
        sys.stdout.flush()
    except UserError as error:
        console(stderr=True).print(f"corpusmill: {error}", markup=False, highlight=False)
        code = error.exit_code
    except ImportError as error:
        text = f"corpusmill: the installation is not whole: {error}. Install it again."
        console(stderr=True).print(text, markup=False, highlight=False)
        code = 1
    except BrokenPipeError:
        _discard(sys.stdout)
        code = 128 + signal.SIGPIPE
    except OSError as error:  # a folder that may not be read, a disk that is full
        if error.errno is None:
            raise
        console(stderr=True).print(f"corpusmill: {refusal(error)}", markup=False, highlight=False)
        code = 1
    if code:
        raise typer.Exit(code)
