"""A small corpus is worked on by one process after the clean phase; a large one by many in every phase."""

from __future__ import annotations

import json
from pathlib import Path

import promise_helpers as help
import pytest
from promise_helpers import Small


@pytest.mark.slow
def test_many_workers_in_every_phase_give_the_same_bytes(small: Small, tmp_path: Path) -> None:
    """Else a large corpus would depend on the number of workers where this small one cannot show it."""
    out = tmp_path / "out"
    everywhere = str(Path(__file__).parent / "all_parallel")
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 3, env={"PYTHONPATH": everywhere})
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics
    for phase in ("clean", "signatures", "bands", "documents", "tokenise", "shard"):
        (desk,) = out.glob(f"ledger/runs/*/{phase}-0")
        runner = json.loads((desk / "job.json").read_text())["runner"]
        workers = {json.loads(path.read_text())["pid"] for path in desk.glob("reports/*.json")}
        assert workers, phase
        assert runner not in workers, f"{phase} was done by the process that should only lead"
