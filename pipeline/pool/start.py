"""What `corpusmill worker` turns into: loads what workers need, then is the pool until it is stopped."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import socket
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from pipeline import fingerprint, forks, nursery
from pipeline.errors import UserError

MODULES = (
    "apache_beam.runners.worker.sdk_worker_main",
    "pipeline.engine",
    "pipeline.guard_child",
    "pipeline.pool.server",
    "stages.registry",
)
"""What brings all the others that a worker needs."""


def replace_this_process(host: str, port: int, log_folder: Path | None) -> NoReturn:
    """Makes this process the pool. By a fresh interpreter: hashing and memory are set when one starts.

    Raises UserError where there can be none.
    """
    if not nursery.available():
        raise UserError(f"a worker pool needs Linux, where processes can be forked safely; this is {sys.platform}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()  # said before seconds of loading
    except OSError as error:
        raise UserError(f"no worker pool at {host}:{port}: {error.strerror or error}") from error
    folder = log_folder or Path(tempfile.mkdtemp(prefix="corpusmill-worker-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--log-folder {folder} cannot be made: {error.strerror}") from error
    sys.stdout.flush()
    command = [sys.executable, "-m", __name__, host, str(port), str(folder)]
    os.execve(sys.executable, command, os.environ | forks.environment() | forks.MEMORY)


def main(host: str, port: int, folder: Path) -> int:
    """Is the pool; returns the exit code."""
    load()
    from pipeline.pool.logs import Logs
    from pipeline.pool.service import Pool

    def ready(port: int) -> None:
        print(f"corpusmill worker: ready at {host}:{port} ({versions()}); logs in {folder}", flush=True)

    try:
        number = Pool(host, port, Logs(folder), ready).run()
    except UserError as error:
        print(f"corpusmill: {error}", file=sys.stderr)
        return error.exit_code
    return 128 + number


def load() -> None:
    """Imports what workers would import, each of them anew."""
    logging.disable(logging.WARNING)  # Beam's about packages that it does not find
    for module in MODULES:
        importlib.import_module(module)
    fingerprint.of()  # of what is loaded now, not of what will be installed one day
    logging.disable(logging.NOTSET)
    logging.getLogger().handlers.clear()  # which some message put there; each process has its own


def versions() -> str:
    """What runs here, in short."""
    found = [f"{package} {version(package)}" for package in ("corpusmill", "apache-beam", "pyarrow")]
    return ", ".join([*found, f"Python {platform.python_version()}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
