"""Lists of what somebody asked to have taken out, as people write them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from stages.takedown import Matcher, read

PAGES = ["https://www.example.org/a?utm_source=x", "http://xn--bcher-kva.example/%C3%A4", "https://example.org/b", "/c"]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("url https://example.org/a # asked for by mail", 0),
        ("URL https://example.org/a", 0),
        ("example.org/a", 0),
        ("//example.org/a\t# the same", 0),
        ("https://bücher.example/ä", 1),
        ("Domain bücher.example # all of it", 1),
        ("https://example.org/b#part", 2),
        ("# https://example.org/b", None),
    ],
)
def test_what_a_line_asks_for_is_found(line: str, row: int | None) -> None:
    """A line that is understood and matches nothing would leave the page in the corpus, and nobody would notice."""
    urls = pa.array(PAGES, pa.string())
    ids = pa.nulls(len(PAGES), pa.binary(16))
    assert Matcher(read(line.encode(), "list")).match(ids, urls).tolist() == [
        0 if number == row else -1 for number in range(len(PAGES))
    ]
