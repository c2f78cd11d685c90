"""`corpusmill clean`: what is removed can be missed, and what a later change needs comes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_run import contents, run_here, write_recipe

from pipeline.errors import LockedError, RecipeError
from pipeline.ledger import Ledger
from pipeline.lock import FolderLock
from pipeline.look import clean_folder
from pipeline.look.overview import overview
from pipeline.look.verify import verify

SHARES = "mixture.shares={notes: 0.2, wet: 0.6, docs: 0.2}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe and, in `run`, its finished run."""
    folder = tmp_path_factory.mktemp("clean")
    run_here(write_recipe(folder), folder / "run")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of `made/run` over the same inputs."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def clean(out: Path, *keep: str) -> None:
    clean_folder.carry_out(clean_folder.plan(out, keep))


def test_a_cleaned_run_still_counts_as_done(made: Path, here: Path) -> None:
    """Else freeing disk space would cost the whole run at the next call, or the figures of the report."""
    before = overview(here)
    clean(here, "shards")
    assert contents(here, "documents", "dropped", "tokens", "clean", "dedup", "plan", "signatures", "duplicates") == {}
    assert contents(here, "shards", "tokenizer") == contents(made / "run", "shards", "tokenizer")
    assert overview(here) == before
    assert verify(here).damage == []
    assert run_here(made / "small.yaml", here) == {}


def test_a_late_change_redoes_what_it_must_read_and_no_more(made: Path, here: Path, tmp_path: Path) -> None:
    """Else a new mixture over a cleaned run would fail on missing files, give other shards, or redo the tokenizer."""
    whole = Path(shutil.copytree(made / "run", tmp_path / "whole"))
    assert run_here(made / "small.yaml", whole, SHARES) == {"plan": 1, "shard": 5}
    clean(here, "tokens", "shards")
    assert run_here(made / "small.yaml", here, SHARES) == {"plan": 1, "shard": 5}
    assert contents(here, "shards") == contents(whole, "shards")

    clean(here, "shards")
    again = run_here(made / "small.yaml", here)  # back to the first mixture: tokens are gone, and all before them
    assert again.pop("join") == 9
    assert again == {
        "clean": 4, "signatures": 4, "exact": 1, "bands": 4, "clusters": 1, "losers": 4, "documents": 4, "tokenise": 4,
        "plan": 1, "shard": 4,
    }  # fmt: skip
    assert contents(here, "shards") == contents(made / "run", "shards")
    assert verify(here).damage == []


def test_new_input_after_cleaning(made: Path, tmp_path: Path) -> None:
    """Else a crawl that grows could not be cleaned in between: deduplication must read all signatures again."""
    recipe = write_recipe(tmp_path / "other")
    extra = recipe.parent / "crawl" / "notes-1.jsonl"
    kept = extra.rename(tmp_path / "later")
    run_here(recipe, tmp_path / "run")
    clean(tmp_path / "run", "shards")
    kept.rename(extra)
    again = run_here(recipe, tmp_path / "run")
    assert again["clean"] == 4
    assert contents(tmp_path / "run", "shards") == contents(made / "run", "shards")


def test_killed_between_note_and_deletion(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a clean that was killed half-way would leave a folder that is neither whole nor cleaned."""
    emptied: list[Path] = []

    def die(folder: Path) -> None:
        if emptied:
            raise KeyboardInterrupt
        emptied.append(folder)
        for path in sorted(folder.rglob("*"))[:2]:
            path.unlink()

    monkeypatch.setattr(clean_folder, "_empty", die)
    with pytest.raises(KeyboardInterrupt):
        clean(here, "shards")
    monkeypatch.undo()
    assert verify(here).damage == []
    assert run_here(made / "small.yaml", here) == {}
    clean(here, "shards")
    assert contents(here, "clean", "tokens") == {}
    assert run_here(made / "small.yaml", here) == {}


def test_a_kept_part_of_a_partly_removed_unit_is_still_watched(made: Path, here: Path) -> None:
    """Else a dropped table that breaks after cleaning would stay broken for ever."""
    clean(here, "dropped", "shards")
    victim = sorted((here / "dropped").glob("clean-*"))[0]
    good = victim.read_bytes()
    victim.unlink()
    assert [damage.file for damage in verify(here).damage] == [f"dropped/{victim.name}"]
    assert run_here(made / "small.yaml", here)["clean"] == 1
    assert victim.read_bytes() == good


def test_messages(here: Path, corpusmill, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Else a script, or a typing error, could delete what nobody meant to delete."""
    files = contents(here, "documents", "shards", "tokens")
    with pytest.raises(RecipeError, match="Did you mean 'shards'"):
        clean_folder.plan(here, ["shard"])
    done = corpusmill("clean", here, "--keep", "shards", check=False)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "documents" in done.stdout
    assert contents(here, "documents", "shards", "tokens") == files
    with FolderLock(Ledger(here).folder), pytest.raises(LockedError):
        clean(here, "shards")
    assert contents(here, "documents", "shards", "tokens") == files
    done = corpusmill("clean", here, "--keep", "shards,documents", "--yes")
    assert "frees" in done.stdout
    assert sorted(contents(here, "documents", "tokens")) == sorted(name for name in files if name[0] == "d")
    assert corpusmill("clean", here, "--keep", "shards,documents").stdout == "nothing to remove\n"
    dropped = corpusmill("dropped", here, "-n", "1", check=False)
    assert dropped.returncode == 1
    assert "corpusmill clean" in dropped.stderr
    assert json.loads(corpusmill("inspect", here, "--json").stdout)["records"]["balanced"] is True
