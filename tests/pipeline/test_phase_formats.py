"""What the phases write: a format that changes gets another version, and nobody reads what is of an older one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_run import contents, run_here, write_recipe

from pipeline import versions
from pipeline.errors import UserError
from pipeline.ledger import Ledger
from pipeline.look.overview import overview
from pipeline.look.verify import verify
from stages.schema import DOCUMENTS

GOLDEN = Path(__file__).parent / "phase_formats.json"
OPTIONAL = {"unavailable", "pins"}


def formats(run: Path) -> dict[str, object]:
    """Of each phase: its version, the facts in its manifest rows, its tables without the columns of stages (scores, and
    measures by `STAGE.SETTING`)."""
    ledger = Ledger(run)
    (some, *_) = ledger.rows("clean")
    own = {name for name in pq.read_schema(run / some.part("clean").path).names if name not in DOCUMENTS.names}
    found: dict[str, object] = {}
    for phase, version in versions.VERSIONS.items():
        tables: dict[str, str] = {}
        facts: set[str] = set()
        for row in ledger.rows(phase):
            facts |= row.body.keys() - OPTIONAL
            for part in row.parts:
                folder, name = part.path.split("/")
                kind = f"{folder}/{name.split('-')[0]}" if folder == "dedup" else folder
                if name.endswith((".parquet", ".arrow")):
                    path = run / part.path
                    schema = pq.read_schema(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).schema
                    fields = [field for field in schema if field.name not in own and "." not in field.name]
                    tables[kind] = ", ".join(f"{field.name} {field.type}" for field in fields)
        found[phase] = {"version": version, "facts": sorted(facts), "tables": tables}
    return found


def test_formats_have_their_versions(demo_run: Path) -> None:
    """Else a folder of an older version would be read as what it is not: a raw error of Arrow, or wrong numbers."""
    now, known = formats(demo_run), json.loads(GOLDEN.read_text("utf-8"))
    for phase in versions.VERSIONS:
        assert now[phase] == known[phase], (
            f"what phase {phase} writes looks otherwise: raise its version in pipeline/versions.py, and write this "
            f"into {GOLDEN.name}:\n" + json.dumps({phase: now[phase]}, indent=1)
        )


def test_a_folder_of_an_older_version_is_not_read_but_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an upgrade would end in a traceback, cost a folder, or mix old results with new ones."""
    recipe, out = write_recipe(tmp_path, host={"repeated_lines": {}}), tmp_path / "run"
    with monkeypatch.context() as older:
        older.setitem(versions.VERSIONS, "signatures", 1)
        older.setattr("pipeline.phases.signatures.content_keys", lambda batch: batch.column("id"))  # as it once was
        every = set(run_here(recipe, out))
        overview(out)
    shards = contents(out, "shards", "documents")
    for look in (overview, verify):
        with pytest.raises(UserError, match=r"another version, corpusmill .* of signatures look otherwise. Run its"):
            look(out)
    before = {phase: Ledger(out).keys(phase) for phase in versions.VERSIONS}
    done = run_here(recipe, out)
    assert done["signatures"] == len(before["signatures"])
    assert "clean" not in done
    assert not set(before["signatures"]) & set(Ledger(out).keys("signatures"))
    assert contents(out, "shards", "documents") == shards
    assert verify(out).damage == []

    head = json.loads((out / "ledger" / "run.json").read_text())
    del head["phases"]  # as before there were versions
    (out / "ledger" / "run.json").write_text(json.dumps(head))
    with pytest.raises(UserError, match="of index, clean, lines, host_lines, host, sign"):
        overview(out)
    assert set(run_here(recipe, out)) == every
    assert contents(out, "shards", "documents") == shards
