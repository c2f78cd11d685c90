"""Memory stays flat: what a worker holds does not grow with the file that it reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import promise_helpers as help
import pytest


def _crawl(path: Path, records: int) -> None:
    """A WARC of pages of 1 MB, most of it a script, one gzip member each; all but their addresses is the same."""
    script = b"<script>" + b"let again = 'and again';\n" * 40_000 + b"</script>"
    text = b"<p>" + b"This is what the page says, in a sentence or two. " * 40 + b"</p>"
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>" + text + script
    with path.open("wb") as file:
        for number in range(records):
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:page:{number}>\r\n"
                f"WARC-Target-URI: https://example.org/{number}\r\nContent-Type: application/http;msgtype=response\r\n"
                f"Content-Length: {len(block)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + block + b"\r\n\r\n", 1))


def _peak(folder: Path, records: int) -> int:
    folder.mkdir()
    _crawl(folder / "crawl.warc.gz", records)
    entry = {"source": "web", "path": "crawl.warc.gz", "format": "warc"}
    recipe = help.write_recipe(folder / "r.yaml", {"name": "m", "inputs": [entry], "stages": [{"extract": {}}]})
    status, output = help.run("run", recipe, "--out", folder / "out", "--workers", 1)
    assert status == 0, output
    facts = help.inspect(folder / "out")
    assert facts["records"]["kept"] == records
    return int(facts["peak_bytes"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """Else a run that passed its trial would die of a large file at night."""
    once, eight = _peak(tmp_path / "once", 80), _peak(tmp_path / "eight", 640)
    assert eight < 1.25 * once, f"{once / 1e6:.0f} MB for 80 MB of pages, {eight / 1e6:.0f} MB for 640 MB"
