"""Ports and addresses of this machine: which are free, and whether somebody listens."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def listens(address: str, timeout: float = 2.0) -> bool:
    """Whether somebody takes connections at `host:port` within so many seconds."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except OSError:
        return False
    return True
