"""`corpusmill verify`: every kind of damage is named, marked, and mended by the next run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_run import contents, run_here, write_recipe

from pipeline import accounts
from pipeline.errors import DamageError, LockedError, UserError
from pipeline.ledger import PART_FOLDERS, Ledger
from pipeline.lock import FolderLock
from pipeline.look.overview import overview
from pipeline.look.verify import Report, verify
from pipeline.shards import corpus_bytes, index_bytes, read_index, write_shard


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe and, in `run`, its finished run."""
    folder = tmp_path_factory.mktemp("verify")
    run_here(write_recipe(folder), folder / "run")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of `made/run` whose files look untouched to its ledger."""
    out = Path(shutil.copytree(made / "run", tmp_path / "run"))
    ledger = Ledger(out)
    for row in ledger.rows():
        stats = {part.path: (out / part.path).stat() for part in row.parts}
        parts = [replace(part, stat=(stats[part.path].st_mtime_ns, stats[part.path].st_ino)) for part in row.parts]
        ledger._write_row(replace(row, parts=tuple(parts)))
    return out


def flip(path: Path, place: float = 0.5) -> None:
    """Changes one bit, and hides it: size, inode and time stay."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(int(stat.st_size * place))
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def first(out: Path, pattern: str) -> Path:
    return sorted(out.glob(pattern))[0]


def damaged(report: Report) -> dict[str, str]:
    return {damage.file: damage.reason for damage in report.damage}


def test_a_whole_run(demo_copy: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else a user could not tell a whole corpus from one that was never looked at."""
    done = corpusmill("verify", demo_copy)
    assert "everything is as it was written" in done.stdout
    assert "both identities" in done.stdout
    facts = json.loads(corpusmill("verify", demo_copy, "--json").stdout)
    meta = json.loads((demo_copy / "corpus.json").read_text())
    assert facts["whole"] is True
    assert facts["tokens"] == sum(split["tokens"] for split in meta["splits"].values())
    assert facts["parts"] == sum(
        path.is_file() and "plans" not in path.parts for name in PART_FOLDERS for path in (demo_copy / name).rglob("*")
    )


def test_damage_is_named_and_mended(made: Path, here: Path, corpusmill) -> None:  # type: ignore[no-untyped-def]
    """Else bits that rot on the disk would end in a model, unnoticed, or cost the whole run."""
    before = contents(here, *PART_FOLDERS) | {"corpus.json": (here / "corpus.json").read_bytes()}
    flipped = [first(here, pattern) for pattern in ("shards/train-*.bin", "documents/*", "dropped/clean-*")]
    for path in flipped:
        flip(path)
    missing = first(here, "tokens/*")
    missing.unlink()
    truncated = first(here, "shards/validation-*.idx")
    os.truncate(truncated, truncated.stat().st_size - 5)
    row = first(here, "ledger/rows/signatures/*")
    flip(row)
    flip(here / "corpus.json")
    stray = here / "documents" / "stray.parquet"
    stray.write_bytes(b"x")

    done = corpusmill("verify", here, check=False)
    assert done.returncode == 4
    for path, reason in {
        **dict.fromkeys(flipped, "other contents"),
        missing: "is missing",
        truncated: "bytes instead of",
        row: "",  # of JSON, a bit may spoil the syntax as well
        here / "corpus.json": "",
        stray: "no manifest row claims it",
    }.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"damaged: {path.relative_to(here)}:")]
        assert reason in line
    assert "marked" in done.stdout
    assert corpusmill("verify", here, check=False).returncode == 4

    assert run_here(made / "small.yaml", here) == {
        "clean": 1, "signatures": 1, "documents": 1, "tokenise": 1, "shard": 2,
    }  # fmt: skip
    assert contents(here, *PART_FOLDERS) | {"corpus.json": (here / "corpus.json").read_bytes()} == before
    assert verify(here).damage == []


def test_damage_that_hides_is_redone_only_because_it_was_marked(made: Path, here: Path) -> None:
    """Else verify would name damage that the next run, which trusts time and inode, leaves as it is."""
    path = first(here, "documents/*")
    good = path.read_bytes()
    flip(path)
    assert run_here(made / "small.yaml", here) == {}
    assert path.read_bytes() != good
    report = verify(here)
    assert report.marked
    assert list(damaged(report)) == [f"documents/{path.name}"]
    assert run_here(made / "small.yaml", here) == {"documents": 1}
    assert path.read_bytes() == good


def test_where_nothing_may_be_written_it_only_reports(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a corpus on a read-only disk could not be checked."""
    flip(first(here, "documents/*"))
    rows = contents(here, "ledger/rows")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    report = verify(here)
    assert len(report.damage) == 1
    assert not report.marked
    assert contents(here, "ledger/rows") == rows


def test_not_while_a_run_is_at_work(here: Path) -> None:
    """Else a run at work would be called damaged, and its rows be changed under it."""
    with FolderLock(Ledger(here).folder), pytest.raises(LockedError, match="Verify it when that has ended"):
        verify(here)


def test_a_run_that_was_stopped_is_not_damaged(here: Path) -> None:
    """Else every interrupted run would look broken; and its books, which cannot balance yet, would alarm."""
    ledger = Ledger(here)
    ledger.set_complete(False)
    for phase in ("documents", "tokenise", "shard"):
        for key in ledger.keys(phase):
            for part in ledger.read_row(phase, key).parts:  # type: ignore[union-attr]
                (here / part.path).unlink()
            ledger.row_path(phase, key).unlink()
    (here / "corpus.json").unlink()
    report = verify(here)
    assert (report.complete, report.damage, report.identities) == (False, [], False)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    """Else a wrong path would be told to be whole."""
    with pytest.raises(UserError, match="no run folder"):
        verify(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_books_that_do_not_balance(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a record lost between two tables would go unnoticed after the run's end."""
    monkeypatch.setattr(accounts, "counted", lambda ledger, phase, folder: 1)
    assert "139 records were framed" in damaged(verify(here))["ledger"]


def _boundary(out: Path) -> None:
    """Writes a shard whose documents do not end with the boundary token."""
    _rewrite(out, lambda tokens: [*tokens[:-1].tolist(), 5])


def _beyond(out: Path) -> None:
    """Writes a shard with a token that the vocabulary does not have."""
    _rewrite(out, lambda tokens: [60_000, *tokens[1:].tolist()])


def _rewrite(out: Path, change: Callable[..., list[int]]) -> None:
    """A shard that is wrong but consistent: files, corpus.json and ledger say the same of it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    stem = out / "shards" / "validation-00000-of-00001"
    dtype, lengths = read_index(stem.with_suffix(".idx"))
    tokens = np.split(np.fromfile(stem.with_suffix(".bin"), dtype), np.cumsum(lengths)[:-1])
    table = pq.read_table(f"{stem}.docs.parquet").drop_columns(["token_start", "token_end"])
    documents = [(np.array(change(one), dtype), row) for one, row in zip(tokens, table.to_pylist(), strict=True)]
    facts = write_shard(stem, documents, dtype, pa.schema(table.schema))
    _say_so(out, stem, facts["files"])


def _table(out: Path) -> None:
    """Writes a table of documents that does not fit its index."""
    import pyarrow.parquet as pq

    from pipeline.shards import file_sha256

    stem = out / "shards" / "validation-00000-of-00001"
    path = Path(f"{stem}.docs.parquet")
    pq.write_table(pq.read_table(path).slice(1), path)
    files = json.loads((out / "corpus.json").read_text())["splits"]["validation"]["shards"][0]["files"]
    files[".docs.parquet"] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    _say_so(out, stem, files)


def _index(out: Path) -> None:
    """Writes an index of other lengths."""
    from pipeline.shards import file_sha256

    stem = out / "shards" / "validation-00000-of-00001"
    path = stem.with_suffix(".idx")
    dtype, lengths = read_index(path)
    lengths = lengths.copy()
    lengths[0] -= 1
    path.write_bytes(index_bytes(lengths, dtype))
    files = json.loads((out / "corpus.json").read_text())["splits"]["validation"]["shards"][0]["files"]
    files[".idx"] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    _say_so(out, stem, files)


def _say_so(out: Path, stem: Path, files: dict[str, dict[str, object]]) -> None:
    from pipeline.ledger import file_digest

    meta = json.loads((out / "corpus.json").read_text())
    meta["splits"]["validation"]["shards"][0]["files"] = files
    (out / "corpus.json").write_bytes(corpus_bytes(meta))
    ledger = Ledger(out)
    (row,) = [row for row in ledger.rows("shard") if row.body["stem"] == f"shards/{stem.name}"]
    parts = [
        replace(part, bytes=(out / part.path).stat().st_size, digest=file_digest(out / part.path)) for part in row.parts
    ]
    ledger._write_row(replace(row, parts=tuple(parts), body=row.body | {"files": files}))
    ledger.set_complete(True)


@pytest.mark.parametrize(
    ("spoil", "file", "reason"),
    [
        (_boundary, ".bin", "does not end with the boundary token"),
        (_beyond, ".bin", "no id below the vocabulary"),
        (_table, ".docs.parquet", "rows for"),
        (_index, ".idx", "documents or tokens are not those of corpus.json"),
    ],
)
def test_shards_are_read_and_not_only_their_digests(
    here: Path, spoil: Callable[[Path], None], file: str, reason: str
) -> None:
    """Else a fault in writing shards, whose digests are right, would be found by a trainer that crashes."""
    spoil(here)
    found = damaged(verify(here))
    assert list(found) == [f"shards/validation-00000-of-00001{file}"]
    assert reason in found[f"shards/validation-00000-of-00001{file}"]


def test_inspect_names_a_damaged_description(here: Path) -> None:
    """A flipped bit would end in a traceback, or in figures that nobody wrote."""
    path = here / "corpus.json"
    path.write_text(path.read_text().replace('"splits"', '"splitz"'))
    with pytest.raises(DamageError, match=f"{path} is not readable: it has other contents than were written"):
        overview(here)
