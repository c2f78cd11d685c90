"""The extractors that are compared, each as a function from pages to texts. None of them is given a page's URL."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from pipeline.resources import load
from stages.base import Processor
from stages.decode import decode
from stages.extract import Extract
from stages.extract.folds import FOLDS
from stages.registry import make
from tests.bench.extract_scoring import CRAWL, Page

BATCH = 64
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Result:
    """What our stage made of a page; `text` is empty where it was dropped."""

    text: str = ""
    title: str | None = None
    date: str | None = None
    """YYYY-MM-DD."""
    dropped: str | None = None


def trafilatura(page: Page) -> str:
    """The reference of every figure: trafilatura's default, given the bytes."""
    from trafilatura import extract

    return extract(page.payload, include_comments=False) or ""


def trafilatura_fast(page: Page) -> str:
    """Without its fallback extractors."""
    from trafilatura import extract

    return extract(page.payload, include_comments=False, fast=True) or ""


def resiliparse(page: Page) -> str:
    """resiliparse's main content with its defaults; decoded by our decoder, which is the better one for it."""
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(decode(page.payload, page.content_type).text, main_content=True)
    return text


PEERS: dict[str, Callable[[Page], str]] = {
    "trafilatura": trafilatura,
    "resiliparse": resiliparse,
    "trafilatura fast": trafilatura_fast,
}


def peer_texts(name: str, pages: Sequence[Page], cache: Path | None = None) -> dict[str, str]:
    """Text by page id. A failure gives an empty text. With `cache`, a folder, what one release made is kept there."""
    return remembered(name, pages, PEERS[name], "", cache)


def remembered(
    name: str, pages: Sequence[Page], function: Callable[[Page], Answer], failed: Answer, cache: Path | None
) -> dict[str, Answer]:
    """What a peer answers, by page id; `failed` where it raises. `name` begins with the peer's distribution."""
    version = importlib.metadata.version(name.split()[0])
    path = cache and cache / f"{name.replace(' ', '-')}-{version}.jsonl"
    known: dict[str, Answer] = {}
    if path and path.exists():
        known = {row["id"]: row["text"] for row in map(json.loads, path.read_bytes().splitlines())}
    missing = [page for page in pages if page.id not in known]
    for page in missing:
        try:
            known[page.id] = function(page)
        except Exception:  # whatever a peer does on a page is its score
            known[page.id] = failed
    if path and missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (json.dumps({"id": each, "text": text}, ensure_ascii=False) + "\n" for each, text in known.items())
        path.write_text("".join(rows), "utf-8")
    return {page.id: known[page.id] for page in pages}


def fold_extractors(engine: str, format: str, models: Path | None) -> dict[int, Processor]:
    """For each fold the stage that may be scored on its pages: `blocks` with the model trained on the other folds.

    Models are read from `models`, one file `fold-N.*` for each fold; an engine without a model needs none.
    Raises ValueError where the engine does not exist or does not have the format, FileNotFoundError for a model.
    """
    stage = make(Extract, {"engine": engine, "format": format})
    roles = list(stage.files())
    if not roles:
        return dict.fromkeys(range(FOLDS), stage.bind({}))
    found = {}
    for number in range(FOLDS):
        paths = sorted(models.glob(f"fold-{number}.*")) if models else []
        if len(paths) != len(roles):
            raise FileNotFoundError(f"no model of fold {number} in {models}")
        found[number] = stage.bind({role: path.read_bytes() for role, path in zip(roles, paths, strict=True)})
    return found


def shipped_extractor(engine: str) -> Processor:
    """The stage as a user gets it, with our own model: for its time and memory, which no page's score depends on."""
    stage = make(Extract, {"engine": engine})
    return stage.bind(load(stage.files(), Path()))


def train_folds(folder: Path) -> None:
    """Trains one model for each fold on the pages of the others, into `folder`."""
    command = [sys.executable, "-m", "pipeline.train_extractor", str(CRAWL), "--folds", str(folder)]
    subprocess.run(command, check=True)


def batch_of(pages: Sequence[Page]) -> pa.RecordBatch:
    """What a reader hands the stage, less the URL."""
    return pa.record_batch(
        {
            "id": pa.array([page.id.encode() for page in pages], pa.binary(16)),
            "content_type": pa.array([page.content_type for page in pages], pa.string()),
            "payload": pa.array([page.payload for page in pages], pa.binary()),
        }
    )


def our_results(extractors: Mapping[int, Processor], pages: Iterable[Page]) -> dict[str, Result]:
    """Result by page id, each page by the extractor of its fold."""
    folds: dict[int, list[Page]] = {}
    for page in pages:
        folds.setdefault(page.fold, []).append(page)
    results = {}
    for number, members in folds.items():
        for start in range(0, len(members), BATCH):
            results.update(_results(extractors[number], members[start : start + BATCH]))
    return results


def _results(extractor: Processor, pages: Sequence[Page]) -> dict[str, Result]:
    outcome = extractor(batch_of(pages))
    results = {pages[row].id: Result(dropped=reason) for row, reason, _, _ in outcome.dropped}
    names = outcome.batch.schema.names
    wanted = [name for name in ("id", "text", "title", "published") if name in names]
    for row in outcome.batch.select(wanted).to_pylist():
        day = str(row["published"])[:10] if row.get("published") else None
        results[row["id"].decode()] = Result(row["text"] or "", row.get("title"), day)
    return results
