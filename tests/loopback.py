"""Stores on loopback for the tests: a real S3 server (moto's) and an HTTP server, both of which can fail on demand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from werkzeug.serving import WSGIRequestHandler, make_server

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "loopback",
    "AWS_SECRET_ACCESS_KEY": "loopback-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "CORPUSMILL_RETRY_SECONDS": "0.01",
}
"""What a user would set, with waits that tests can afford."""

App = Callable[..., Iterable[bytes]]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextmanager
def serving(app: App) -> Iterator[str]:
    """A WSGI application on a free port of loopback: its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Flaky:
    """Every `every`-th request fails: in turn with 500, with 503, and by a connection that is cut in mid-body."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.where = ""
        self.every = 0
        self.requests: Counter[str] = Counter()
        self.failed = 0
        self.sent = 0
        """Bytes of bodies."""
        self._lock = threading.Lock()
        self._number = 0

    def reset(self, where: str, every: int = 0) -> None:
        """Starts to count anew."""
        self.where, self.every = where, every
        self._number = self.failed = self.sent = 0
        self.requests.clear()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self._number += 1
            self.requests[environ["REQUEST_METHOD"]] += 1
            fails = self.every and self._number % self.every == 0
            self.failed += bool(fails)
            kind = self.failed % 3 if fails else None
        if kind in (1, 2):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error" if kind == 1 else "503 Slow Down", [("Content-Length", "0")])
            return [b""]
        body = self.app(environ, start_response)
        return self._counted(body, cut=kind == 0)

    def _counted(self, body: Iterable[bytes], *, cut: bool) -> Iterator[bytes]:
        for chunk in body:
            if cut:
                yield chunk[: len(chunk) // 2]
                raise ConnectionAbortedError("cut by the test")
            self.sent += len(chunk)
            yield chunk


def moto_app() -> App:
    """moto's S3 server, as an application."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    return DomainDispatcherApplication(create_backend_app)  # type: ignore[no-any-return]


class Web:
    """Files of a folder over HTTP, with ranges; what a path is to do wrong stands in `faults`.

    `busy:N`: the first N requests get 503. `cut:N`: the first N bodies end half-way. `no-range`: the whole file is
    sent whatever is asked for. `gone`: 404. `down`: 500 for ever. `no-validator`: neither ETag nor date.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: dict[str, str] = {}
        self.seen: Counter[tuple[str, str]] = Counter()
        self.sent = 0
        self.ranges: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = unquote(environ["PATH_INFO"]).lstrip("/")
        method = environ["REQUEST_METHOD"]
        name, _, number = self.faults.get(path, "").partition(":")
        with self._lock:
            self.seen[method, path] += 1
            left = self._left.setdefault(path, int(number or 0))
            used = left > 0 and (name == "busy" or (name == "cut" and method == "GET"))
            self._left[path] = left - used
        file = self.root / path
        if name == "gone" or not file.is_file():
            return self._plain(start_response, "404 Not Found")
        if name == "down" or (name == "busy" and used):
            return self._plain(start_response, "503 Slow Down" if name == "busy" else "500 Internal Server Error")
        data = file.read_bytes()
        headers = [("Accept-Ranges", "bytes")] if name != "no-range" else []
        if name != "no-validator":
            headers += [("ETag", f'"{file.stat().st_mtime_ns:x}-{len(data):x}"')]
            headers += [("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))]
        asked = environ.get("HTTP_RANGE")
        status = "200 OK"
        if asked and name != "no-range":
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers.append(("Content-Range", f"bytes {start}-{end}/{len(data)}"))
            status, data = "206 Partial Content", data[start : end + 1]
        headers.append(("Content-Length", str(len(data))))
        start_response(status, headers)
        if method == "HEAD":
            return [b""]
        with self._lock:
            self.sent += len(data)
            self.ranges.append((path, asked or ""))
        return self._body(data, cut=name == "cut" and used)

    def _plain(self, start_response: Any, status: str) -> Iterable[bytes]:
        start_response(status, [("Content-Length", "0")])
        return [b""]

    def _body(self, data: bytes, *, cut: bool) -> Iterator[bytes]:
        if cut:
            yield data[: len(data) // 2]
            raise ConnectionAbortedError("cut by the test")
        yield data


def upload(address: str, bucket: str, folder: Path) -> None:
    """Puts the files of a folder into a new bucket, by another client than the one under test."""
    client = _client(address)
    client.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=str(path.relative_to(folder)), Body=path.read_bytes())


def download(address: str, bucket: str, prefix: str) -> dict[str, bytes]:
    """The objects whose names begin so, by the same other client."""
    client, found = _client(address), {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for one in page.get("Contents", []):
            found[one["Key"]] = client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
    return found


def _client(address: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=address, region_name="us-east-1",
                        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
                        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"])  # fmt: skip
