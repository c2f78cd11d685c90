"""Beam's job server: the Java process that takes a pipeline and hands it to a cluster as a job."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from pipeline.errors import RecipeError, UserError
from pipeline.ports import listens

START_SECONDS = 120.0
"""A Java process on a busy machine."""


def check_address(address: str, option: str, example: str = "localhost:8099") -> None:
    """Raises RecipeError, which names the option, for what is no `host:port`."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise RecipeError(f"runner option --{option}={address}: an address is wanted, as {example}")


class JobServer:
    """A job server of our own, on the loopback interface; its output goes where ours goes."""

    def __init__(self, command: Sequence[str], endpoint: str, scratch: TemporaryDirectory[str]) -> None:
        self.endpoint = endpoint
        self._scratch = scratch
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        """Raises UserError where it ended, or took too long."""
        patience = time.monotonic() + START_SECONDS
        while not listens(self.endpoint):
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
    """The flags that a job server takes beside Beam's Python ones: those of its runner.

    Raises UserError where what answers there is no job server.
    """
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            told = service.DescribePipelineOptions(beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=60)
        except grpc.RpcError as error:
            raise UserError(
                f"what answers at {endpoint} is no job server of Beam (--job_endpoint): {error.code().name}"
            ) from error
    return {option.name for option in told.options}
