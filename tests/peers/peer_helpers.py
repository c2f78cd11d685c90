"""What the tests on other tools' cases share: the cases' folder, and how verdicts are compared."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "stages"))

from stage_helpers import SHARED, batch, bound, needs_shared, pages, texts

__all__ = ["PEERS", "SHARED", "agree", "batch", "bound", "dolma_pages", "needs_shared", "one", "pages", "texts"]

PEERS = SHARED / "peers"
_PAGES = ("multiple_files/cc_en_head-0091.jsonl", "multiple_files/cc_en_head-0174.jsonl", "provided/documents/000.json")


def dolma_pages() -> dict[tuple[str, str], str]:
    """The texts of thirty pages of the web that dolma's tests use, by file and id."""
    found = {}
    for name in _PAGES:
        with gzip.open(PEERS / "dolma" / "data" / f"{name}.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                found[name.removeprefix("multiple_files/").rsplit(".", 1)[0], row["id"]] = row["text"]
    return found


def one(found: list[str]) -> str:
    """The text of a batch of one; empty where it was dropped."""
    return found[0] if found else ""


def agree(found: Mapping[Any, tuple[Any, Any]], different: Mapping[Any, str], equal: int, least: float = 0.95) -> None:
    """Asserts that verdicts or results (theirs, ours) are the same but for the cases of `different`, which says why.

    `equal` is how many are the same, and must be this share of all at `least`.
    """
    unequal = {case: pair for case, pair in found.items() if pair[0] != pair[1]}
    assert not {case: pair for case, pair in unequal.items() if case not in different}
    assert unequal.keys() == different.keys(), "some are the same by now"
    assert len(found) - len(unequal) == equal
    assert equal >= least * len(found)
