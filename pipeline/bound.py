"""Stages bound to their files once, in the process that workers are forked from: see `pipeline.nursery`.

What is bound before a fork, processes share: models and tables lie in memory once, however many workers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.ledger import digest_of
from stages.base import Processor, Stage

_kept: dict[str, Processor] = {}


def facts_of(stage: Stage, digests: Mapping[str, str]) -> dict[str, Any]:
    """What the stage's outcome depends on: name, version, settings, packages, digests of its files by role."""
    return stage.fingerprint() | {"files": dict(digests)}


def keep(facts: Mapping[str, Any], processor: Processor) -> None:
    """Keeps a processor for this process and those that it forks."""
    _kept[digest_of(facts)] = processor


def kept(facts: Mapping[str, Any]) -> Processor | None:
    """The processor that was kept for exactly these facts, or None."""
    return _kept.get(digest_of(facts)) if _kept else None
