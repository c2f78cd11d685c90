"""A small crawl and its finished run: the undisturbed result that the tests of the promises compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import promise_helpers as help
import pytest


class Small(NamedTuple):
    """A finished run over the small crawl. Tests must not change it."""

    crawl: Path
    recipe: Path
    out: Path
    shards: dict[str, str]
    statistics: dict[str, Any]
    output: str


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small crawl, its recipe and its run with one worker that nothing disturbed."""
    folder = tmp_path_factory.mktemp("small")
    crawl = help.small_crawl(folder / "crawl")
    recipe = help.write_recipe(folder / "small.yaml", help.recipe(crawl))
    status, output = help.run("run", recipe, "--out", folder / "out", "--workers", 1)
    assert status == 0, output
    out = folder / "out"
    return Small(crawl, recipe, out, help.shards(out), help.statistics(help.inspect(out)), output)
