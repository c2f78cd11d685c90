"""How fast `corpusmill browse` is on a large run, and what memory it takes.

`python -m tests.bench.look_browse` makes a run of ten million documents (`tests.bench.big_run`, some GB in the
temporary folder; `--documents N` for fewer, `--run DIR` for a run folder of yours), serves it in a process of its own
and asks for pages as a browser does: wall time until the answer is there, CPU time and peak memory of the server.
Goals: first page 1 s, a filter 2 s, 1 GB.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path

import httpx
import psutil

from pipeline.look.database import connect
from tests.bench import big_run

ROUNDS = 3


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--run", type=Path, help="A run folder to browse, instead of one that is made.")
    parser.add_argument("--search", default="qqqzzz", help="what is in no text")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.run or Path(scratch) / "run"
        if asked.run is None:
            big_run.make(folder, asked.documents)
        measure(folder, asked.search)


def measure(folder: Path, search: str) -> None:
    """Prints what pages over a run folder take; `search` is in none of its texts."""
    with connect(folder) as database:
        ((rows, low, high, host),) = database.execute(
            "SELECT count(*), quantile_cont(characters, 0.9), quantile_cont(characters, 0.99), max(host(url)) "
            "FROM documents"
        ).fetchall()
        ((language,),) = database.execute("SELECT min(language) FROM documents").fetchall()
        reasons = database.execute("SELECT reason FROM dropped GROUP BY 1 ORDER BY count(*) LIMIT 1").fetchall()
    begun = time.monotonic()
    command = [sys.executable, "-m", "pipeline.cli", "browse", str(folder), "--no-open"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+/", server.stdout.readline())
        assert found, "the server did not start"
        seen = psutil.Process(server.pid)
        print(f"{rows:,} documents; the server answers after {time.monotonic() - begun:.1f} s")
        client = httpx.Client(base_url=found[0], timeout=120)
        ranged = f"column=characters&low={low:g}&high={high:g}"
        table = {
            "first page": "/?",
            "its snippets": "/api/snippets?places=" + ",".join(f"0.{row}" for row in range(50)),
            "a language": f"/?language={language}",
            "how many": f"/api/count?language={language}",
            "a range": f"/?{ranged}",
            "how many fit the range": f"/api/count?{ranged}",
            "nothing fits (range)": "/?column=characters&low=-9&high=-1",
            "a host": f"/?host={host}",
            "how many of the host": f"/api/count?host={host}",
            "no such host": "/?host=no.such.host.example",
            "a reason": f"/?table=dropped&reason={reasons[0][0]}" if reasons else "/?",
            "language, range and host": f"/?language={language}&{ranged}&host={host}",
            "text that is nowhere (stops)": f"/?search={search}",
            "sample, 50 of each language": "/?sample=50&by=language",
            "a document": "/document?at=0.7",
        }
        for name, path in table.items():
            times, cpu = [], []
            for turn in range(1 if "sample" in name or "stops" in name else ROUNDS):
                before, began = sum(seen.cpu_times()[:2]), time.monotonic()
                answer = client.get(path)
                times.append(time.monotonic() - began)
                cpu.append(sum(seen.cpu_times()[:2]) - before)
                assert answer.status_code == 200, (turn, answer.text)
            note = ""
            stopped = re.search(r"stopped after ([\d,]+) rows", answer.text)
            if stopped:
                note = f"  stopped after {stopped[1]} rows"
            median = statistics.median(times)
            print(f"{name:<30} first {times[0]:6.3f} s, median {median:6.3f} s, CPU {cpu[0]:6.3f} s{note}")
        page = client.get("/").text
        last = unescape(re.findall(r'rel="next" href="([^"]*)"', page)[0])
        began = time.monotonic()
        for _ in range(20):
            page = client.get(last).text
            last = unescape(re.findall(r'rel="next" href="([^"]*)"', page)[0])
        print(f"{'next page, mean of 20':<30} {(time.monotonic() - began) / 20:6.3f} s")
        status = Path(f"/proc/{server.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
        memory = int(peak[1]) * 1024 if peak else seen.memory_info().rss
        print(f"peak memory of the server {memory / 1e6:,.0f} MB")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
