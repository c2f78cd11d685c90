"""The ledger: `run` again redoes what depends on a change, all of it and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import promise_helpers as help
import pytest
from promise_helpers import Small


@pytest.fixture
def copy(small: Small, tmp_path: Path) -> Small:
    """A private copy of the finished run."""
    return small._replace(out=Path(shutil.copytree(small.out, tmp_path / "out")))


@pytest.fixture
def own(copy: Small, tmp_path: Path) -> Small:
    """A private copy of the run and of the crawl, whose digests the run knows."""
    crawl = Path(shutil.copytree(copy.crawl, tmp_path / "crawl"))
    recipe = help.write_recipe(tmp_path / "small.yaml", help.recipe(crawl))
    made = copy._replace(crawl=crawl, recipe=recipe)
    assert _again(made) == {"index"}  # copied files are looked into once more
    return made


def _again(small: Small, *changes: str) -> set[str]:
    """Runs again with `--set` changes; the phases of which a row was written anew."""
    before = help.ledger_rows(small.out)
    words = [word for change in changes for word in ("--set", change)]
    status, output = help.run("run", small.recipe, "--out", small.out, "--workers", 1, *words)
    assert status == 0, output
    redone = help.redone(before, help.ledger_rows(small.out))
    assert ("nothing had changed, so nothing was redone" in output) == (not redone)
    return redone


def test_nothing_is_redone_when_nothing_changed(copy: Small) -> None:
    """Else going on after a kill would cost the whole run again."""
    assert _again(copy) == set()
    assert help.shards(copy.out) == copy.shards


def test_settings_redo_what_depends_on_them(copy: Small) -> None:
    """Else a changed threshold would go unnoticed (fault 3), or cost more than it must."""
    assert _again(copy, "shards.tokens_per_shard=50000") == {"plan", "shard"}
    changed = help.shards(copy.out)
    assert set(changed) != set(copy.shards)
    assert len(list((copy.out / "shards").glob("*.bin"))) == len(changed) // 2  # the old ones are gone
    assert _again(copy, "shards.tokens_per_shard=50000", "expect.extract.drop=[0.0, 0.9]") == set()
    from_bands = ["bands", "join", "clusters", "losers", "documents", "tokenizer", "tokenise", "plan", "shard"]
    # Another band division finds the same twins, so the documents are the same: what is made of them stands.
    assert _again(copy, "dedup.near.threshold=0.7", "shards.tokens_per_shard=50000") == set(from_bands[:4])
    assert _again(copy, "dedup.near.threshold=0.98") == set(from_bands)
    assert _again(copy) == set(from_bands)
    assert help.shards(copy.out) == copy.shards  # there and back


def test_a_setting_that_changes_no_document_redoes_its_stage_only(copy: Small) -> None:
    """Else trying a threshold would cost deduplication and tokens, too."""
    assert _again(copy, "stages.toxicity.max_count=99") == {"clean"}
    assert help.shards(copy.out) == copy.shards


def test_a_stage_that_drops_more_leaves_dedup_on(copy: Small) -> None:
    """Else a quality setting would switch deduplication off, as in a peer (fault 6)."""
    before = [row for row in help.rows(copy.out, "dropped") if row["stage"] == "dedup"]
    redone = _again(copy, "stages.gopher_quality.min_words=60")
    after = [row for row in help.rows(copy.out, "dropped") if row["stage"] == "dedup"]
    assert {"clean", "signatures", "exact", "clusters"} <= redone
    assert len(before) == len(after) == 3
    kept = {row["id"] for row in help.rows(copy.out, "documents")}
    assert all(row["survivor"] in kept for row in after)
    statistics = help.inspect(copy.out)
    assert statistics["records"]["balanced"]
    assert statistics["records"]["framed"] == copy.statistics["records"]["framed"]
    assert _unclaimed(copy.out) == set()  # what other settings gave is removed


def test_only_a_new_file_is_read(own: Small) -> None:
    """Else a month's new crawl would mean reading all the years before again."""
    before = help.ledger_rows(own.out)
    line = json.dumps({"text": "A further note about rivers and the towns that lie on them. " * 12})
    (own.crawl / "more.jsonl").write_text(line + "\n")
    redone = _again(own, f"inputs.1.path=[{own.crawl / 'notes.jsonl'}, {own.crawl / 'more.jsonl'}]")
    assert "clean" in redone
    after = help.ledger_rows(own.out)
    for phase in ("index", "clean", "signatures"):
        assert len([name for name in after if name.startswith(phase) and after[name] != before.get(name)]) == 1


def test_a_renamed_file_is_not_read_again(own: Small) -> None:
    """Else moving the crawl to another disk would redo the run."""
    (own.crawl / "web-a.warc.gz").rename(own.crawl / "another.warc.gz")
    assert _again(own) == {"index"}  # its digest
    assert help.shards(own.out) == own.shards


def test_leftovers_of_a_killed_run_skip_nothing(copy: Small) -> None:
    """Else files under their final or temporary names would pass for results, as in a peer (fault 6)."""
    first, second, *_ = sorted((copy.out / "ledger" / "rows" / "clean").iterdir())
    parts = [copy.out / json.loads(row.read_text())["row"]["parts"][0]["path"] for row in (first, second)]
    first.unlink()
    second.unlink()
    parts[1].write_bytes(b"a part that was never committed")
    attempt = copy.out / "ledger" / "attempts" / "0123"
    attempt.mkdir()
    (attempt / "kept").write_bytes(b"half a part")
    (copy.out / "clean" / "0123.parquet.tmp").write_bytes(b"half a part")
    assert "clean" in _again(copy)
    assert help.shards(copy.out) == copy.shards
    assert help.statistics(help.inspect(copy.out)) == copy.statistics
    assert not attempt.exists()
    assert not list(copy.out.glob("clean/*.tmp"))


def test_damaged_rows_are_found_and_redone(copy: Small) -> None:
    """Else a bad disk would end in a corpus that is not what the recipe says."""
    for phase in ("index", "clean", "exact", "tokenizer", "shard"):
        rows = sorted((copy.out / "ledger" / "rows" / phase).iterdir())
        content = rows[-1].read_text()
        if phase in ("index", "clean"):
            rows[-1].write_text(content[: len(content) // 2])
        else:
            rows[-1].write_text(
                content.replace('"documents": ', '"documents": 1', 1).replace('"vocabulary": 8', "9", 1)
            )
        assert rows[-1].read_text() != content
    assert {"index", "clean", "exact", "tokenizer", "shard"} <= _again(copy)
    assert help.shards(copy.out) == copy.shards
    assert help.statistics(help.inspect(copy.out)) == copy.statistics


def test_damaged_parts_are_found_and_redone(copy: Small) -> None:
    """Else one flipped bit would go into every later run on this folder."""
    for folder in ("clean", "signatures", "dedup", "documents", "tokenizer", "tokens", "plan", "shards"):
        part = sorted((copy.out / folder).iterdir())[0]
        if folder in ("signatures", "tokens"):
            part.unlink()
            continue
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    assert {"clean", "signatures", "documents", "tokenizer", "tokenise", "plan", "shard"} <= _again(copy)
    assert help.shards(copy.out) == copy.shards
    assert help.statistics(help.inspect(copy.out)) == copy.statistics


def _unclaimed(out: Path) -> set[str]:
    """Files in the part folders that no manifest row names."""
    claimed: set[str] = set()
    for path in (out / "ledger" / "rows").glob("*/*.json"):
        claimed |= {part["path"] for part in json.loads(path.read_text())["row"]["parts"]}
    folders = [path for path in out.iterdir() if path.is_dir() and path.name != "ledger"]
    return {str(path.relative_to(out)) for folder in folders for path in folder.rglob("*") if path.is_file()} - claimed
