"""A small crawl and its finished run: the undisturbed result that the tests of the promises compare with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import promise_helpers as help
import pytest
from promise_helpers import Small


@pytest.fixture(scope="session")
def small(shared: Callable[[str, Callable[[Path], object]], Path]) -> Small:
    """The small crawl, its recipe and its run with one worker that nothing disturbed."""

    def make(folder: Path) -> None:
        recipe = help.write_recipe(folder / "small.yaml", help.recipe(help.small_crawl(folder / "crawl")))
        status, output = help.run("run", recipe, "--out", folder / "out", "--workers", 1)
        assert status == 0, output
        statistics = help.statistics(help.inspect(folder / "out"))
        (folder / "told.json").write_text(json.dumps([statistics, output]))

    folder = shared("small", make)
    statistics, output = json.loads((folder / "told.json").read_text())
    out = folder / "out"
    return Small(folder / "crawl", folder / "small.yaml", out, help.shards(out), statistics, output)
