"""CPU a page of the demo's clean phase by stage, beside a bare loop of the extractor over the same pages."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.yaml"


def corpusmill(*arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def bare_extraction() -> tuple[int, float]:
    """Pages of the bundled crawl that trafilatura alone extracts, and its CPU seconds: no reader, no other stage."""
    import trafilatura

    from pipeline.readers import READERS
    from pipeline.readers.base import Piece, Tally
    from pipeline.recipe import read_recipe
    from pipeline.sources import input_files

    pages = []
    for file in input_files(read_recipe(DEMO)):
        if file.format == "warc":
            piece = Piece(
                file.source, file.format, file.path, file.name, 0, Path(file.path).stat().st_size, file.fields
            )
            pages += [read.payload for read in READERS["warc"].read(piece, Tally()) if read.reason is None]
    begun = time.process_time()
    for page in pages:
        trafilatura.extract(page, include_comments=False)
    return len(pages), time.process_time() - begun


def main() -> None:
    """Runs the demo recipe with one worker and prints what its clean phase cost."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        corpusmill("run", str(DEMO), "--out", folder, "--workers", "1")
        wall = time.monotonic() - begun
        facts = json.loads(corpusmill("inspect", folder, "--json"))
    pages, extraction = bare_extraction()
    cpu = facts["cpu_seconds"]["clean"]
    documents = facts["funnel"][1]["entered"]
    print(f"demo recipe, one worker: {wall:.1f} s; clean phase {cpu:.1f} s CPU for {documents} documents")
    print(f"  {1000 * cpu / documents:.1f} ms CPU a document, {1000 * cpu / pages:.1f} ms a page ({pages} HTML pages)")
    print(f"  peak memory of the worker: {facts['peak_bytes'] / 1e6:.0f} MB")
    for step in facts["funnel"]:
        if step["seconds"]:
            print(f"  {step['stage']:<15} {1000 * step['seconds'] / step['entered']:6.2f} ms a document")
    print(f"  trafilatura.extract alone over the same pages: {1000 * extraction / pages:.1f} ms a page")
    print(f"  clean phase / bare extraction: {cpu / extraction:.2f}")


if __name__ == "__main__":
    main()
