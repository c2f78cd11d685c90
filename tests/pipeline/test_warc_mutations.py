"""Real WARC and ARC files with bytes changed, lost, doubled or put in: never an exception, every byte accounted for."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.readers import CUTS, READERS
from pipeline.readers.base import Piece, Read, Tally

HERE = Path(__file__).parents[1] / "data" / "crawl"
REAL = Path(__file__).parents[3] / "shared" / "data" / "warc-real"
LARGEST = 60_000


def samples() -> dict[str, bytes]:
    """Heads of the bundled crawl (also unpacked, and as one member), and small real files where they are."""
    found = {"odd": (HERE / "odd.warc.gz").read_bytes()}
    wet = (HERE / "wet.warc.wet.gz").read_bytes()
    crawl = (HERE / "web-001.warc.gz").read_bytes()[:LARGEST]
    zstd = (HERE / "web-zh.warc.zst").read_bytes()[:LARGEST]
    found |= {"wet": wet[:LARGEST], "members": crawl, "zstd": zstd, "wet, plain": gzip.decompress(wet)[:LARGEST]}
    found["wet, one member"] = gzip.compress(found["wet, plain"])
    for path in sorted(REAL.glob("*/*arc*")) if REAL.is_dir() else []:
        if path.stat().st_size <= LARGEST:
            found[path.name] = path.read_bytes()
    return found


SAMPLES = samples()


def load(path: Path, kind: str, ranges: list[tuple[int, int]]) -> list[Read]:
    reads: list[Read] = []
    for start, end in ranges:
        tally = Tally()
        found = list(READERS[kind].read(Piece("web", kind, str(path), "x", start, end), tally))
        assert tally.framed == len(found)
        assert end - start == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps), tally
        for gap in tally.gaps:
            assert start <= gap.offset <= gap.offset + gap.length <= end
        reads += found
    return reads


@st.composite
def mutations(draw: st.DrawFn, size: int) -> list[tuple[str, int, bytes]]:
    """What is done to a file: (how, where, with what)."""
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(["set", "put in", "take out", "double", "cut"]))
        where = draw(st.integers(0, size))
        small = st.binary(min_size=1, max_size=12)
        tokens = st.sampled_from(
            [b"WARC/1.0\r\n", b"\r\n\r\n", b"Content-Length: 99999\r\n", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd",
             b"\x50\x2a\x4d\x18\x04\x00\x00\x00", b"\x04\x22\x4d\x18", b"\n0\r\n",
             b"\nhttp://e.org/ 1.2.3.4 20140216050221 text/html 9\n",
             b"Content-Encoding: br\r\n", b"Transfer-Encoding: chunked\r\n"]
        )  # fmt: skip
        steps.append((how, where, draw(st.one_of(small, tokens, st.integers(1, 3000).map(bytes)))))
    return steps


def mutated(data: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    for how, where, stretch in steps:
        match how:
            case "set":
                data = data[:where] + stretch[: max(0, len(data) - where)] + data[where + len(stretch) :]
            case "put in":
                data = data[:where] + stretch + data[where:]
            case "take out":
                data = data[:where] + data[where + 17 * len(stretch) :]
            case "double":
                data = data[:where] + data[max(0, where - 50 * len(stretch)) : where] + data[where:]
            case _:
                data = data[: max(where, 200)]
    return data


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_books_balance_whatever_happened_to_a_file(name: str, tmp_path: Path, data: st.DataObject) -> None:
    """A broken download or a bad disk would end a run of weeks, or bytes would vanish from its books."""
    content = mutated(SAMPLES[name], data.draw(mutations(len(SAMPLES[name]))))
    path = tmp_path / "x"
    path.write_bytes(content)
    kind = "wet" if "wet" in name else "warc"
    whole = load(path, kind, [(0, len(content))])
    ranges = READERS[kind].plan(str(path), max(1, len(content) // 4))
    assert [ranges[0][0], ranges[-1][1]] == [0, len(content)]
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
    assert load(path, kind, ranges) == whole
    for read in whole[:: max(1, len(whole) // 3)]:
        assert CUTS[kind](str(path), read.origin, Piece("web", kind, str(path), "x", 0, 0)) == read
