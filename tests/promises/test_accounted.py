"""Promise 1, accounted: every record and every byte is on the books, and the books are counted again here."""

from __future__ import annotations

import gzip
import io
import json
import signal
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import promise_helpers as help
import pyarrow.parquet as pq
import pytest
import zstandard
from promise_helpers import Small
from warcio.archiveiterator import ArchiveIterator


def _warc_records(data: bytes) -> int:
    return sum(1 for _ in ArchiveIterator(io.BytesIO(data), no_record_parse=True))


def _records_of_damaged(data: bytes) -> int:
    """Whole members in front of and behind the zeroed one, one record each."""
    behind = data[help.GAP[0] + help.GAP[1] :]
    return sum(1 for _ in help.members(data)) + sum(1 for _ in help.members(behind))


def _records(path: Path) -> int:
    """The records of a bundled file, counted by other means than ours."""
    data = path.read_bytes()
    if path.name == "damaged.warc.gz":
        return _records_of_damaged(data)
    if path.suffix == ".zst":
        return _warc_records(zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read())
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    if ".jsonl" in path.name:
        return sum(1 for line in gzip.decompress(data).splitlines() if line.strip())
    return _warc_records(data)


@pytest.fixture(scope="module")
def facts(demo_run: Path) -> dict[str, Any]:
    """What `inspect --json` says of the run of the demo recipe."""
    return help.inspect(demo_run)


def test_every_record_is_kept_or_dropped(demo_run: Path, facts: dict[str, Any]) -> None:
    """Else records would vanish uncounted, as 2 of 37 did in a peer (fault 4)."""
    kept, dropped = help.rows(demo_run, "documents"), help.rows(demo_run, "dropped")
    counted = {item["path"]: _records(Path(item["path"])) for item in facts["inputs"]}
    assert len(counted) == 8  # every reader, and the damaged file
    assert {item["path"]: item["framed"] for item in facts["inputs"]} == counted
    assert facts["records"]["framed"] == sum(counted.values()) == len(kept) + len(dropped)
    assert (facts["records"]["kept"], facts["records"]["dropped"]) == (len(kept), len(dropped))
    assert Counter(row["reason"] for row in dropped) == facts["reasons"]
    places = Counter(
        (row["source"], *((row["origin"] or {}).get(name) for name in ("file", "offset", "inner_offset")))
        for row in [*kept, *dropped]
    )
    assert max(places.values()) == 1  # no record is both, or twice


def test_every_byte_is_in_a_record_or_in_a_gap(facts: dict[str, Any]) -> None:
    """Else a damaged download would look like a whole one."""
    for item in facts["inputs"]:
        size = Path(item["path"]).stat().st_size
        assert size == item["bytes"] == item["spans"] + item["structure"] + item["gaps"], item["path"]
    (gap,) = facts["gaps"]
    assert Path(gap["file"]).name == "damaged.warc.gz"
    assert (gap["offset"], gap["length"]) == help.GAP


@pytest.mark.parametrize(
    ("reason", "where"),
    [
        ("read.broken_json", "notes.jsonl.gz"),
        ("read.empty_text", "notes.jsonl.gz"),
        ("read.empty_text", "table.parquet"),
        ("read.no_text", "table.parquet"),
        ("read.not_an_object", "notes.jsonl.gz"),
        ("read.not_html", "dot.png"),
        ("read.pdf", "leaflet.html"),
        ("read.http_status", "gone.html"),
        ("read.empty_body", "empty.html"),
        ("read.bad_encoding", "bad-gzip.html"),
        ("read.revisit", "web-001.warc.gz"),
        ("extract.undecodable_bytes", "odd.warc.gz"),  # a charset that lies and cannot be mended
        ("extract.not_text", "no-charset.html"),
    ],
)
def test_what_is_no_document_has_its_reason(demo_run: Path, facts: dict[str, Any], reason: str, where: str) -> None:
    """Else a user could not tell what the crawl held, nor which rule took it away."""
    rows = [row for row in help.rows(demo_run, "dropped") if row["reason"] == reason]
    assert any(where in (row["url"] or "") or where == row["origin"]["file"] for row in rows), rows
    assert facts["reasons"][reason] == len(rows)


def test_a_charset_that_lies_is_mended(demo_run: Path, facts: dict[str, Any]) -> None:
    """Else Chinese pages whose server names the wrong charset would become noise, or be lost."""
    (lost,) = [row for row in help.rows(demo_run, "dropped") if "gb18030-as-utf8" in (row["url"] or "")]
    assert lost["reason"] == "dedup.same_text"  # the crawl has the same page in honest UTF-8
    texts = {row["id"]: row["text"] for row in help.rows(demo_run, "clean")}
    assert texts[lost["id"]] == texts[lost["survivor"]]
    extract = next(step for step in facts["funnel"] if step["stage"] == "extract")
    assert extract["counts"]["charset_corrected"] >= 1


def test_stages_spend_no_more_than_their_phase(facts: dict[str, Any]) -> None:
    """Else a user would speed up the wrong stage: what a child process spends belongs to the one stage that it runs."""
    spent = {step["stage"]: step["seconds"] for step in facts["funnel"]}
    assert spent["extract"] > 0
    assert sum(spent.values()) <= facts["cpu_seconds"]["clean"] + 0.1, spent


def test_losers_name_their_survivors(demo_run: Path) -> None:
    """Else a duplicate's loss could not be judged."""
    kept = {row["id"] for row in help.rows(demo_run, "documents")}
    losers = [row for row in help.rows(demo_run, "dropped") if row["stage"] == "dedup"]
    assert losers
    assert all(row["survivor"] in kept for row in losers)


def test_drop_rate_outside_its_band_ends_the_run(small: Small, tmp_path: Path) -> None:
    """Else a wrong setting would quietly throw away the corpus."""
    data = help.recipe(small.crawl) | {"expect": {"gopher_quality": {"drop": [0.5, 1.0]}}}
    recipe = help.write_recipe(tmp_path / "r.yaml", data)
    status, output = help.run("run", recipe, "--out", tmp_path / "out", "--workers", 1)
    assert status == 3
    assert "stage gopher_quality dropped" in output
    assert "50.0% to 100.0%" in output
    assert "expect.gopher_quality.drop" in output
    assert "word_length" in output  # what it saw
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_drop_rate_is_judged_on_the_first_splits(tmp_path: Path) -> None:
    """Else a mistake would show only when the whole crawl has been read."""
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    for number in range(40):
        lines = [json.dumps({"text": f"too short {number} {line}"}) for line in range(300)]
        (crawl / f"{number}.jsonl").write_text("\n".join(lines))
    data = {
        "name": "early",
        "inputs": [{"source": "s", "path": str(crawl / "*"), "format": "jsonl"}],
        "stages": [{"gopher_quality": {"min_words": 50}}],
        "expect": {"gopher_quality": {"drop": [0.0, 0.6]}},
    }
    recipe = help.write_recipe(tmp_path / "r.yaml", data)
    status, output = help.run("run", recipe, "--out", tmp_path / "out", "--workers", 1)
    assert status == 3
    assert "stage gopher_quality dropped 100.0% of the 1200 records" in output
    assert len(list((tmp_path / "out" / "ledger" / "rows" / "clean").iterdir())) == 4


BROKEN = {
    "import": """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "trafilatura":
            raise ImportError("No module named 'trafilatura' (broken installation)")
sys.meta_path.insert(0, Finder())
""",
    "call": """
import sys
if {"pipeline.runner", "pipeline.nursery", "pipeline.guard_child"} & {*sys.orig_argv}:
    import trafilatura
    def extract(*args, **settings):
        raise ImportError("No module named 'justext', which trafilatura needs")
    trafilatura.extract = extract
""",
}


@pytest.mark.parametrize("kind", ["import", "call"])
def test_a_missing_dependency_is_never_a_drop(small: Small, tmp_path: Path, kind: str) -> None:
    """Else a broken installation would empty the corpus and report success (fault 4)."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN[kind])
    out = tmp_path / "out"
    words = ["run", small.recipe, "--out", out, "--workers", 1, "--set", "stages.extract.engine=trafilatura"]
    status, output = help.run(*words, env={"PYTHONPATH": str(tmp_path)})
    assert status == 1
    assert "trafilatura" in output
    assert "Traceback" not in output
    assert not help.rows(out, "dropped") or all(row["stage"] != "extract" for row in help.rows(out, "dropped"))
    if kind == "call":
        status, output = help.run("run", small.recipe, "--out", out, "--workers", 1)  # mended
        assert status == 0, output
        assert help.shards(out) == small.shards


@pytest.mark.parametrize(("package", "kind"), [("apache_beam", "TypeError"), ("lz4", "ImportError")])
def test_a_library_that_is_broken_is_told_at_once(small: Small, tmp_path: Path, package: str, kind: str) -> None:
    """Else a broken installation would look like a worker that died of too little memory."""
    finder = BROKEN["import"].replace("trafilatura", package).replace("ImportError", kind)
    (tmp_path / "sitecustomize.py").write_text(finder)
    status, output = help.run("run", small.recipe, "--out", tmp_path / "out", env={"PYTHONPATH": str(tmp_path)})
    assert status == 1
    assert f"No module named '{package}' (broken installation)" in output
    assert "A worker died" not in output


def test_a_machine_that_stands_still_changes_nothing(small: Small, tmp_path: Path) -> None:
    """Else what is kept would depend on load, as 165 and 171 of 200 pages did in a peer (fault 4)."""
    out = tmp_path / "out"
    process = help.start_held(tmp_path, "run", small.recipe, "--out", out, "--workers", 1)
    help.release(tmp_path)
    for _ in range(3):
        help.send_all(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        help.send_all(process.pid, signal.SIGCONT)
        time.sleep(0.3)
    status, output = help.finish(process)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics


def test_members_of_the_slice_are_real(small: Small) -> None:
    """The helper's own slice: a gap lies in the middle of whole members, or the tests above would prove nothing."""
    data = (small.crawl / "damaged.warc.gz").read_bytes()
    whole = list(help.members(data))
    assert len(whole) == 6
    assert data[whole[-1][1] : whole[-1][1] + help.GAP[1]].count(0) > 6_000
    with pytest.raises(zlib.error):
        zlib.decompressobj(31).decompress(data[whole[-1][1] :])
    facts: dict[str, Any] = small.statistics
    assert facts["gaps"][0]["length"] == help.GAP[1]
