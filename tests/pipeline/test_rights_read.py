"""What servers and pages say of their use comes from a crawl into the documents, where a recipe filters on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here

from pipeline.errors import RecipeError
from pipeline.look.overview import overview
from pipeline.readers.base import Piece, Tally
from pipeline.readers.warc import read
from pipeline.recipe import read_recipe
from stages.extract.head import Head
from stages.extract.rights import read as rights_of
from stages.extract.scan import canonical, scan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "crawl" / "wcxb-dev-003.warc.gz"
WORDS = "Some text of this page, and more of it, so that it is one. " * 9
BY = "https://creativecommons.org/licenses/by/4.0/"


def response(number: int, headers: str, head: str = "") -> bytes:
    """A WARC record of a page."""
    page = f"<html><head><title>Page {number}</title>{head}</head><body><article><p>{number}. {WORDS}</article>"
    block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n{page}".encode()
    lines = ["WARC/1.0", "WARC-Type: response", f"WARC-Target-URI: https://example.org/{number}",
             "Content-Type: application/http; msgtype=response", f"Content-Length: {len(block)}"]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def write(folder: Path) -> Path:
    """A crawl of six pages."""
    path = folder / "a.warc"
    path.write_bytes(
        response(0, "X-Robots-Tag: googlebot: noarchive\r\nx-robots-tag: noai\r\nSet-Cookie: link: license\r\n")
        + response(1, "TDM-Reservation: 1\r\nServer: a\r\n")
        + response(2, f"Link: <{BY}>; rel=license\r\nLink: </a.css>; rel=preload\r\n")
        + response(3, "Server: a\r\n", '<meta name="robots" content="noai, noindex">')
        + response(4, "", f'<link rel="license" href="{BY}">')
        + response(5, "X-Robots-Tag: noindex\r\n")
    )
    return path


def test_readers_give_the_lines_that_tell(tmp_path: Path) -> None:
    """Else what a server says of its pages would be lost with the rest of its header."""
    path = write(tmp_path)
    reads = list(read(Piece("a", "warc", str(path), "a", 0, path.stat().st_size), Tally()))
    assert [one.headers for one in reads] == [
        "x-robots-tag: googlebot: noarchive\nx-robots-tag: noai",
        "tdm-reservation: 1",
        f"link: <{BY}>; rel=license",
        None,
        None,
        "x-robots-tag: noindex",
    ]


def test_a_recipe_filters_on_them(tmp_path: Path) -> None:
    """Else pages that ask not to be used would be in the corpus, and nobody could say under which licence a page is."""
    write(tmp_path)
    recipe = tmp_path / "own.yaml"
    stages: list[Any] = [{"extract": {}}, {"rights": {}}, {"rights": {"licenses": ["CC-BY-*"], "keep_unknown": False}}]
    recipe.write_text(yaml.safe_dump({"inputs": [{"source": "a", "path": "a.warc"}], "stages": stages}))
    run_here(recipe, tmp_path / "run")
    funnel = {step["stage"]: step for step in overview(tmp_path / "run")["funnel"]}
    assert funnel["rights"]["dropped"] == {"rights.noai": 2, "rights.tdm": 1}
    assert funnel["rights-2"]["dropped"] == {"rights.no_license": 1}
    (part,) = (tmp_path / "run" / "documents").glob("*.parquet")
    table = pq.read_table(part)
    assert "headers" not in table.column_names
    rows = sorted(
        table.select(["url", "robots", "license", "license_from"]).to_pylist(), key=lambda row: str(row["url"])
    )
    assert [list(row.values())[1:] for row in rows] == [[None, "CC-BY-4.0", "header"], [None, "CC-BY-4.0", "rel"]]


def test_rights_stand_behind_extract(tmp_path: Path) -> None:
    """Else no page would have asked for anything yet, and all would pass without a word."""
    write(tmp_path)
    recipe = tmp_path / "own.yaml"
    stages: list[Any] = [{"rights": {}}, {"extract": {}}]
    recipe.write_text(yaml.safe_dump({"inputs": [{"source": "a", "path": "a.warc"}], "stages": stages}))
    with pytest.raises(RecipeError, match=r"stages.rights: it reads what `extract` writes, which has to stand before"):
        read_recipe(recipe)


@pytest.mark.skipif(not SHARED.exists(), reason="the large test data (../shared/data beside the checkout) is not here")
def test_real_pages() -> None:
    """Wikis and journals state their licence in one of these ways, and news sites their signals."""
    seen: Counter[str | None] = Counter()
    for record in read(Piece("web", "warc", str(SHARED), "x", 0, SHARED.stat().st_size), Tally()):
        if record.payload and (b"creativecommons" in record.payload or b"noai" in record.payload):
            made = rights_of(Head(scan(canonical(record.payload.decode("utf-8", "replace")))), record.url, None)
            seen.update([made.license, *(made.robots or "").split(",")])
    assert sum(number for name, number in seen.items() if name and name.startswith("CC-BY")) > 3
