"""The same recipe on Spark, inside Beam's job server on this machine: the same bytes, whatever is lost on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import flink_helpers as flink
import promise_helpers as help
import pytest
from flink_helpers import kill_worker
from promise_helpers import Small

from pipeline.cluster.jars import JarsMissing, fetch

pytestmark = pytest.mark.slow


def test_spark_gives_equal_bytes(small: Small, tmp_path: Path) -> None:
    """Else whoever has Spark and no Flink would get another corpus, or lose a run with a worker's memory."""
    if not shutil.which("java"):
        pytest.skip("no java here: apt-get install default-jre-headless")
    try:
        fetch("spark")
    except JarsMissing as error:
        pytest.skip(str(error))
    out = tmp_path / "out"
    process = help.start("run", small.recipe, "--out", out, "--runner", "spark", "--workers", 2)
    flink.when(process, out, "clean", lambda: kill_worker(out, "clean"))
    status, output = help.finish(process)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics
