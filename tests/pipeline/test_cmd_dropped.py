"""`corpusmill dropped`: every record that was not kept can be seen, with its reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import RecipeError
from pipeline.look.dropped import choose, records
from pipeline.look.overview import overview
from pipeline.look.runfolder import RunFolder


@pytest.fixture(scope="module")
def run(demo_run: Path) -> RunFolder:
    return RunFolder(demo_run)


def listed(run: RunFolder, **asked: str | None) -> list[dict[str, Any]]:
    return list(records(run, choose(run, asked.get("reason"), asked.get("stage"), asked.get("source"))))


def test_every_dropped_record_is_listed_once(run: RunFolder, demo_run: Path) -> None:
    """Else a record would be in the funnel's figures and nowhere to be looked at."""
    assert Counter(row["reason"] for row in listed(run)) == overview(demo_run)["reasons"]


def test_a_reason_in_every_spelling(run: RunFolder) -> None:
    """Else a user had to know the full name of what the funnel shows in short."""
    full = listed(run, reason="gopher_quality.few_words")
    assert full
    assert listed(run, reason="few_words") == full
    stage = listed(run, reason="gopher_quality")
    assert stage == listed(run, stage="gopher_quality")
    assert [row for row in stage if row["reason"] == "gopher_quality.few_words"] == full
    assert all(row["value"] < row["limit"] for row in full)


def test_source_and_stage(run: RunFolder) -> None:
    """Else the drops of one bad source could not be told from the others'."""
    by_source = {source: listed(run, source=source) for source in ("web", "wet", "notes", "docs")}
    assert sum(map(len, by_source.values())) == len(listed(run))
    assert all(row["source"] == source for source, rows in by_source.items() for row in rows)
    both = listed(run, source="web", stage="read", reason="request")
    assert {(row["source"], row["stage"], row["reason"]) for row in both} == {("web", "read", "read.request")}


def test_a_duplicate_names_the_document_that_it_lost_to(run: RunFolder, demo_run: Path) -> None:
    """Else deduplication could not be judged: one must see both documents."""
    kept = {
        row["id"]: row["url"]
        for path in (demo_run / "documents").glob("*.parquet")
        for row in pq.read_table(path, columns=["id", "url"]).to_pylist()
    }
    losers = listed(run, reason="dedup")
    assert len(losers) > 10
    assert all(kept[row["survivor"]] == row["survivor_url"] for row in losers)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"reason": "few_word"}, "Did you mean 'few_words'.*read.broken_json"),
        ({"stage": "gopher"}, "Did you mean 'gopher_quality'"),
        ({"source": "wep"}, "Did you mean 'we[bt]'"),
    ],
)
def test_unknown_names(run: RunFolder, asked: dict[str, str], hint: str) -> None:
    """Else a typing error would look like a run that dropped nothing."""
    with pytest.raises(RecipeError, match=hint):
        listed(run, **asked)


def test_the_command(demo_run: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else scripts could not read it: one record a line, the same each time, JSON where asked."""
    plain = corpusmill("dropped", demo_run)
    counts, _, rows = plain.stdout.partition("\n\n")
    few = sum(row["reason"] == "gopher_quality.few_words" for row in listed(RunFolder(demo_run)))
    assert few > 0
    assert f"{few}\tgopher_quality\tgopher_quality.few_words" in counts.splitlines()
    assert len(rows.splitlines()) == 20
    assert {len(row.split("\t")) for row in rows.splitlines()} == {10}
    assert "-n 0" in plain.stderr
    assert corpusmill("dropped", demo_run).stdout == plain.stdout
    found = [json.loads(line) for line in corpusmill("dropped", demo_run, "--json").stdout.splitlines()]
    assert len(found) == overview(demo_run)["records"]["dropped"]
    assert found[0]["origin"]["file"]
    assert len(bytes.fromhex(found[0]["id"])) == 16
    failed = corpusmill("dropped", demo_run, "--reason", "nosuch", check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
