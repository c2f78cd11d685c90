"""A small crawl and its finished run: the undisturbed result that the tests of the promises compare with."""

from __future__ import annotations

import promise_helpers as help
import pytest
from promise_helpers import Small


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
