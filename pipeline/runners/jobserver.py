"""Beam's job server: the Java process that takes a pipeline and hands it to a cluster as a job."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from pipeline.errors import RecipeError, UserError

START_SECONDS = 120.0
"""A Java process on a busy machine."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def split_address(address: str, option: str) -> tuple[str, int]:
    """`host:port` as two. Raises RecipeError, which names the option."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise RecipeError(f"runner option --{option}={address}: an address is wanted, as localhost:8099")
    return host, int(port)


def listens(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


class JobServer:
    """A job server of our own, on the loopback interface; its output goes where ours goes."""

    def __init__(self, command: Sequence[str], endpoint: str, scratch: TemporaryDirectory[str]) -> None:
        self.endpoint = endpoint
        self._scratch = scratch
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        """Raises UserError where it ended, or took too long."""
        host, port = split_address(self.endpoint, "job_endpoint")
        patience = time.monotonic() + START_SECONDS
        while not listens(host, port):
            if self._process.poll() is not None:
                raise UserError(
                    f"Beam's job server ended with status {self._process.returncode} before it was ready; "
                    "the log of the run says why. Is it a job server's jar, for this version of Java?"
                )
            if time.monotonic() > patience:
                self.close()
                raise UserError(f"Beam's job server was not ready after {START_SECONDS:.0f} s")
            time.sleep(0.1)

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()


def known_options(endpoint: str) -> set[str]:
    """The flags that a job server takes beside Beam's Python ones: those of its runner."""
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        told = service.DescribePipelineOptions(beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=60)
    return {option.name for option in told.options}
