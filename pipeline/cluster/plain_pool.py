"""A worker pool on one address: Beam's own listens everywhere, and starts whatever is called python on the PATH."""

from __future__ import annotations

import os
import sys
import threading
from unittest import mock

import grpc  # type: ignore[import-untyped]
from apache_beam.runners.worker import worker_pool_main


def main(host: str, port: int) -> None:
    """Serves until it is killed."""
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    real = grpc.server

    def server(*args: object, **kwargs: object) -> grpc.Server:
        made = real(*args, options=[("grpc.so_reuseport", 0)])
        add = made.add_insecure_port
        made.add_insecure_port = lambda _: add(f"{host}:{port}")
        return made

    with mock.patch.object(worker_pool_main.grpc, "server", server):
        worker_pool_main.BeamFnExternalWorkerPoolServicer.start(use_process=True, port=port)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
