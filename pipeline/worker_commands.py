"""The command that runs on the hosts of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import command


@command("worker", works=True)
def worker(
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="The address to listen at; 0.0.0.0 for all of this host.")
    ] = "localhost",
    port: Annotated[int, typer.Option("--port", metavar="P", min=0, max=65535, help="0 takes a free one.")] = 50000,
    log_folder: Annotated[
        Path | None, typer.Option("--log-folder", metavar="DIR", help="Where workers' logs go. [default: a new one]")
    ] = None,
) -> None:
    """Start workers on this host for runners such as Flink, which ask for them: one pool beside each task manager.

    As many workers run as the runners ask for. Each has a log of its own, of a few megabytes at most. Ctrl-C ends the
    pool and its workers; what they have committed stays. Whoever reaches the port can run programs as this user:
    listen only where the network is yours.

    Example: corpusmill worker --host 0.0.0.0 --port 50000
    """
    from pipeline.pool.start import replace_this_process

    replace_this_process(host, port, log_folder)
