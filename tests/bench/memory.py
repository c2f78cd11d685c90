"""Peak memory of the clean phase on a crawl and on eight times that crawl: it must stay flat."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.bench.clean_phase import ROOT, corpusmill

CRAWL = ROOT / "tests" / "data" / "crawl" / "web-000.warc.gz"
RECIPE = """
inputs: [{source: web, path: "*.warc.gz", format: warc}]
stages: [{extract: {}}, {normalize: {}}, {language: {}}, {gopher_quality: {}}]
"""


def peak(folder: Path, copies: int) -> int:
    """Peak bytes of a worker over one file that holds the crawl so many times."""
    folder.mkdir()
    (folder / "crawl.warc.gz").write_bytes(CRAWL.read_bytes() * copies)
    (folder / "recipe.yaml").write_text(RECIPE)
    corpusmill("run", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--workers", "1")
    return int(json.loads(corpusmill("inspect", str(folder / "run"), "--json"))["peak_bytes"])


def main() -> None:
    """Prints both peaks and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        once, eight = (peak(Path(folder) / str(copies), copies) for copies in (1, 8))
    print(f"peak memory of the clean phase: {once / 1e6:.0f} MB, on eight times the input {eight / 1e6:.0f} MB")
    print(f"  ratio {eight / once:.2f}")


if __name__ == "__main__":
    main()
