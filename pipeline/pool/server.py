"""The gRPC side of a pool: Beam's service for external workers, which asks the pool's own process for them.

It keeps nothing: whenever it is killed, the next one goes on, and workers do not notice.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.utils import thread_pool_executor
from google.protobuf import json_format, text_format

from pipeline import fingerprint, forks
from pipeline.failures import Failure, UnitFailed
from pipeline.pool.telling import CONTEXT, RELEASE

LISTENS, START, STOP = "listens", "start", "stop"
"""What the server says to the pool: that it has a port, and what runners ask it for."""
PATIENCE = 60.0
"""Seconds until a runner must have said what it runs."""


def serve(host: str, port: int, pool: str) -> None:
    """Serves runners at this address until this process is killed; tells the pool when it does."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # else two pools would share a port, and no one knew which of them starts a worker
    ]
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=options)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(Servicer(pool), server)
    port = server.add_insecure_port(f"{f'[{host}]' if ':' in host else host}:{port}")
    server.start()
    say(pool, LISTENS, port=port)
    threading.Event().wait()


def say(pool: str, kind: str, **facts: Any) -> dict[str, Any]:
    """What the pool answers. Raises OSError and ValueError where it is gone."""
    with forks.ask(pool, kind, **facts) as line:
        data = b""
        while piece := line.recv(1 << 16):
            data += piece
    return dict(json.loads(data))


class Servicer(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Beam's service for external workers."""

    def __init__(self, pool: str) -> None:
        self._pool = pool

    def StartWorker(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Starts a worker; its error is what the runner shows."""
        error = ""
        try:
            params = dict(request.params)
            if RELEASE in params:
                fingerprint.check_release(params[RELEASE])
            run = params.get(CONTEXT)
            answer = say(
                self._pool, START, name=request.worker_id, environment=environment(request), run=run and json.loads(run)
            )
            error = answer.get("error", "")
            logging.info("worker %s: %s", request.worker_id, error or f"pid {answer['pid']}")
        except fingerprint.WorkerMismatch as mismatch:
            logging.error("worker %s: %s", request.worker_id, mismatch)
            error = f"{mismatch}\n{UnitFailed(Failure.of(mismatch))}"  # so that the driver can tell
        except Exception as problem:
            logging.exception("worker %s", request.worker_id)
            error = f"{type(problem).__name__}: {problem}"
        if error:
            error = f"the worker pool on host {socket.gethostname()} started no worker: {error}"
        return beam_fn_api_pb2.StartWorkerResponse(error=error)

    def StopWorker(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Ends a worker, if it is still there."""
        try:
            say(self._pool, STOP, name=request.worker_id)
        except Exception as problem:
            return beam_fn_api_pb2.StopWorkerResponse(error=f"{type(problem).__name__}: {problem}")
        return beam_fn_api_pb2.StopWorkerResponse()


def environment(request: Any) -> dict[str, str]:
    """What Beam's worker reads from its environment: as its containers' boot program has it."""
    found = {
        "WORKER_ID": request.worker_id,
        "CONTROL_API_SERVICE_DESCRIPTOR": _text(request.control_endpoint),
    }
    if request.logging_endpoint.url:
        found["LOGGING_API_SERVICE_DESCRIPTOR"] = _text(request.logging_endpoint)
    if request.provision_endpoint.url:
        try:
            info = _provision_info(request)
        except grpc.RpcError as error:  # it says how to work faster, no more
            logging.warning("worker %s: no provision information: %s", request.worker_id, error)
            return found
        found["PIPELINE_OPTIONS"] = json_format.MessageToJson(info.pipeline_options)
        found["RUNNER_CAPABILITIES"] = " ".join(info.runner_capabilities)
        if info.status_endpoint.url:
            found["STATUS_API_SERVICE_DESCRIPTOR"] = _text(info.status_endpoint)
    return found


def _provision_info(request: Any) -> Any:
    with grpc.insecure_channel(request.provision_endpoint.url) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        answer = stub.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            timeout=PATIENCE,
            metadata=[("worker_id", request.worker_id)],
        )
    return answer.info


def _text(descriptor: endpoints_pb2.ApiServiceDescriptor) -> str:
    return str(text_format.MessageToString(descriptor))
