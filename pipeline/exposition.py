"""Where Prometheus finds a run's figures: an address that lasts as long as the run, a file that outlives it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline import __version__
from pipeline.errors import LockedError, RecipeError, UserError
from pipeline.metrics import Metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from pipeline.work import Context

HOST = "127.0.0.1"
FILE_SECONDS = 5.0
"""Between two versions of the file; a node exporter is asked every 15 s or more seldom."""


@dataclass(frozen=True)
class Wanted:
    """What `corpusmill run` was asked for."""

    port: int | None = None
    host: str | None = None
    file: Path | None = None


@contextmanager
def exposed(wanted: Wanted, context: Context, runner: str, screen: Console) -> Iterator[Metrics | None]:
    """While this lasts, a run's figures are served and kept in a file; None where neither is wanted.

    Raises RecipeError where the port or the file cannot be had, UserError where the library is not installed.
    """
    if wanted.host is not None and wanted.port is None:
        raise RecipeError("--metrics-host needs --metrics-port")
    if wanted.port is None and wanted.file is None:
        yield None
        return
    try:
        from prometheus_client import CollectorRegistry
    except ModuleNotFoundError as error:
        option = "--metrics-file" if wanted.port is None else "--metrics-port"
        raise UserError(
            f"{option} needs prometheus_client; install it with `pip install 'corpusmill[metrics]'`"
        ) from error
    facts = {"recipe": context.recipe.name, "runner": runner, "version": __version__}
    metrics = Metrics(context.ledger, str(context.out), facts)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    with _served(wanted, registry, screen), _kept(wanted.file, metrics, registry, screen):
        try:
            yield metrics
        except BaseException as error:
            code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
            metrics.end("stopped" if code > 128 else "failed", code)
            raise
        metrics.end("done", 0)


@contextmanager
def _served(wanted: Wanted, registry: CollectorRegistry, screen: Console) -> Iterator[None]:
    """While this lasts, the registry answers at the port that is wanted."""
    if wanted.port is None:
        yield
        return
    from prometheus_client import start_http_server

    host = wanted.host or HOST
    try:
        server, thread = start_http_server(wanted.port, host, registry)
    except OSError as error:
        raise RecipeError(
            f"--metrics-port {wanted.port}: nothing can be served at {host}:{wanted.port}: {error.strerror}. "
            "Give another port, or 0 for a free one."
        ) from error
    screen.print(f"metrics     http://{host}:{server.server_port}/metrics", markup=False, highlight=False)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _kept(path: Path | None, metrics: Metrics, registry: CollectorRegistry, screen: Console) -> Iterator[None]:
    """While this lasts, the file is written every few seconds, and at the end once more."""
    if path is None:
        yield
        return
    from prometheus_client import generate_latest

    file = _File(path.absolute(), metrics, lambda: generate_latest(registry), screen)
    thread = threading.Thread(target=file.keep, daemon=True)
    thread.start()
    ours = True
    try:
        yield
    except LockedError:
        ours = False  # lost: the file is most likely that of the run which holds the folder now
        raise
    finally:
        file.ended.set()
        thread.join()
        if ours and metrics.begun:  # else nothing was run, and the file tells of the run before
            file.write()


class _File:
    """A file that a reader sees whole, of one moment or of another."""

    def __init__(self, path: Path, metrics: Metrics, text: Callable[[], bytes], screen: Console) -> None:
        self.path = path
        self.ended = threading.Event()
        self._metrics = metrics
        self._text = text
        self._screen = screen
        self._beside = path.with_name(f".{path.name}.{os.getpid()}")  # no name that a collector takes for its own
        self._failing = False
        try:
            if path.is_dir():
                raise RecipeError(f"--metrics-file {path} is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._beside.touch()
            self._beside.unlink()
        except OSError as error:
            raise RecipeError(f"--metrics-file {path} cannot be written: {error.strerror}") from error

    def keep(self) -> None:
        """Writes again and again until `ended`, from when the run is at work: the folder may be another one's."""
        while not self.ended.wait(FILE_SECONDS if self._metrics.known else 0.2):
            if self._metrics.begun:
                self.write()

    def write(self) -> None:
        """Puts the present figures in the place of the earlier ones; a disk that is full ends no run.

        Earlier ones stay until the ledger was read, if only to the end of the run.
        """
        text = self._text()
        if not (self._metrics.known or self.ended.is_set()):
            return
        try:
            self._beside.write_bytes(text)
            os.replace(self._beside, self.path)
            self._failing = False
        except OSError as error:
            with suppress(OSError):
                self._beside.unlink(missing_ok=True)
            if not self._failing:
                self._screen.print(f"{self.path} cannot be written: {error.strerror}", markup=False, highlight=False)
            self._failing = True
