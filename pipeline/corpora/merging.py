"""`corpusmill merge`: several corpora of one tokenizer as one, their shards side by side or shuffled together."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.corpora import described, equal, leaks, new, removal, reshuffle
from pipeline.corpora import folder as folders
from pipeline.errors import RecipeError, UserError
from pipeline.look.runfolder import RunFolder
from pipeline.shards import FORMAT, FORMAT_VERSION, Corpus, Shard, file_sha256
from pipeline.splits import TRAIN

SCRATCH = ".work"
"""In the folder that is being written; gone when it is finished."""


@dataclass(frozen=True)
class Merged:
    """What `merge` did."""

    documents: int
    tokens: int
    shards: int
    equal: int
    """Copies of documents that an earlier corpus has too."""
    dropped: bool
    """Whether those were left out."""
    leaks: leaks.Leaks


def merge(
    sources: Sequence[Path],
    out: Path,
    *,
    name: str | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    tokens_per_shard: int | None = None,
    keep_duplicates: bool = False,
    allow_leaks: bool = False,
) -> Merged:
    """Writes the corpora as one in a new folder, splits of one name together, the first corpus first.

    Raises RecipeError where they cannot be one, saying what differs; UserError where one trains on what another holds
    out, or holds what was taken out of another; LockedError where a run works in one.
    """
    if len(sources) < 2:
        raise RecipeError("give two corpora at least")
    if len({source.resolve() for source in sources}) < len(sources):
        raise RecipeError("one corpus is given twice")
    runs = [folders.finished(source) for source in sources]
    corpora = [folders.corpus_of(run) for run in runs]
    _check_alike(corpora)
    found = leaks.find(corpora)
    if found.documents and not allow_leaks:
        raise UserError(
            f"{found.text()}. Take them out (`corpusmill remove --domain`), or accept it with --allow-leaks."
        )
    taken_out = leaks.check_takedowns(corpora)
    with folders.at_rest(*runs), new.new_folder(out) as aside:
        places = [(number, corpus, shard) for number, corpus in enumerate(corpora) for split in corpus.splits
                  for shard in corpus.shards(split)]  # fmt: skip
        tables = [shard.path(".docs.parquet") for _, _, shard in places]
        later = equal.later_ones(tables, [number for number, _, _ in places], aside / SCRATCH)
        twice = sum(len(rows) for rows in later if rows is not None)
        if shuffle:
            order = reshuffle.Shuffle(
                places, later, drop=not keep_duplicates, seed=_seed(corpora[0], seed),
                tokens_per_shard=_size(corpora, tokens_per_shard), scratch=aside / SCRATCH,
            )  # fmt: skip
            splits = order.write(aside)
        else:
            splits = _side_by_side(places, [None] * len(later) if keep_duplicates else later, aside)
        gone = described.added(
            described.of_rows(path, rows) for path, rows in zip(tables, later, strict=True) if rows is not None
        )
        lost = _put_documents(runs, aside, drop=not keep_duplicates)
        new.put_folder(runs[0], "tokenizer", aside)
        if taken_out:
            (aside / removal.LIST).write_text("\n".join(taken_out) + "\n", "utf-8")
        shutil.rmtree(aside / SCRATCH, ignore_errors=True)
        meta = _meta(corpora, name or "+".join(corpus.meta["name"] for corpus in corpora), splits, aside)
        if not keep_duplicates:
            _take_off(meta["sources"], gone, lost)
        if found.documents:
            meta["leaks"] = {"documents": found.documents, "tokens": found.tokens, "domains": sorted(found.domains)}
        meta["equal_documents"] = {"copies": twice, "kept": keep_duplicates}
        new.finish(aside, meta)
    totals = meta["splits"].values()
    return Merged(
        sum(split["documents"] for split in totals), sum(split["tokens"] for split in totals),
        sum(len(split["shards"]) for split in totals), twice, not keep_duplicates, found,
    )  # fmt: skip


def _check_alike(corpora: Sequence[Corpus]) -> None:
    """Raises RecipeError with all that differs."""
    first = corpora[0]
    problems = []
    for other in corpora[1:]:
        pairs = {
            "tokenizer": (first.meta["tokenizer"]["digest"][:16], other.meta["tokenizer"]["digest"][:16]),
            "vocabulary": (first.vocabulary, other.vocabulary),
            "special tokens": (first.special, other.special),
            "token type": (first.dtype.name, other.dtype.name),
            "boundary": (first.boundary, other.boundary),
            "layout": (first.layout, other.layout),
            "mixture by": (_by(first), _by(other)),
        }
        wrong = [f"{name} {a} and {b}" for name, (a, b) in pairs.items() if a != b]
        if wrong:
            problems.append(
                f"{first.folder} and {other.folder} cannot be one corpus; they differ in {'; '.join(wrong)}"
            )
    if problems:
        raise RecipeError("\n".join(problems))


def _by(corpus: Corpus) -> list[str]:
    return list(corpus.mixture()["by"]) if corpus.layout == "by_source" else []


def _seed(first: Corpus, given: int | None) -> int:
    return given if given is not None else int((first.meta.get("recipe") or {}).get("seed", 0))


def _size(corpora: Sequence[Corpus], given: int | None) -> int:
    if given is not None:
        return given
    asked = [((corpus.meta.get("recipe") or {}).get("shards") or {}).get("tokens_per_shard") for corpus in corpora]
    return max((size for size in asked if size), default=100_000_000)


def _side_by_side(
    places: Sequence[tuple[int, Corpus, Shard]], later: Sequence[Any], aside: Path
) -> dict[str, list[dict[str, Any]]]:
    """The shards of all corpora, those of one group together."""
    splits: dict[str, dict[str | None, list[tuple[Corpus, Shard, new.Keep]]]] = {}
    for (_, corpus, shard), gone in zip(places, later, strict=True):
        keep = equal.kept(shard.path(".docs.parquet"), gone)
        if keep is None or keep.any():
            splits.setdefault(shard.split, {}).setdefault(shard.group, []).append((corpus, shard, keep))
    return {split: new.put_kept([one for group in groups.values() for one in group], aside)
            for split, groups in splits.items()}  # fmt: skip


def _put_documents(runs: Sequence[RunFolder], aside: Path, *, drop: bool) -> list[tuple[str, int]]:
    """The documents of all corpora where every one has them; each once with `drop`: source and characters of each one
    that is left out."""
    lost: list[tuple[str, int]] = []
    parts = [[] if run.removed("documents") else run.parts("documents") for run in runs]
    if not all(parts):
        return lost
    tables = [path for paths in parts for path in paths]
    owners = [number for number, paths in enumerate(parts) for _ in paths]
    later = equal.later_ones(tables, owners, aside / SCRATCH) if drop else [None] * len(tables)
    for path, owner, gone in zip(tables, owners, later, strict=True):
        keep = equal.kept(path, gone)
        lost += new.put_table(path, aside / "documents" / f"{owner:02d}-{path.name}", keep)
    return lost


def _take_off(
    sources: dict[str, dict[str, int]], gone: dict[str, described.Figures], lost: list[tuple[str, int]]
) -> None:
    """Counts equal documents once."""
    for name, figures in gone.items():
        sources[name]["tokens"] -= figures.once - figures.documents
    for name, characters in lost:
        sources[name]["documents"] -= 1
        sources[name]["characters"] -= characters


def _meta(corpora: Sequence[Corpus], name: str, splits: described.Splits, aside: Path) -> dict[str, Any]:
    first = corpora[0].meta
    train = splits.get(TRAIN, [])
    meta: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "created_by": f"corpusmill {__version__}",
        **{key: first[key] for key in ("dtype", "vocabulary", "boundary", "layout", "tokenizer")},
        "mixture_by": ["source"],
        "mixture": _mixture(corpora, described.figures(aside, train)),
        "sources": _sums([corpus.meta["sources"] for corpus in corpora]),
        "splits": described.split_facts(splits),
        "recipe": None,
        "merged": [_provenance(corpus) for corpus in corpora],
    }
    if first["layout"] == "by_source":
        meta["files"] = described.write_plan(_plan(corpora), train, aside)
    return meta


def _provenance(corpus: Corpus) -> dict[str, Any]:
    facts = {
        "name": corpus.meta["name"],
        "corpus_sha256": file_sha256(corpus.folder / "corpus.json"),
        "documents": sum(split["documents"] for split in corpus.meta["splits"].values()),
        "tokens": sum(split["tokens"] for split in corpus.meta["splits"].values()),
    }
    more = {name: corpus.meta[name] for name in ("recipe", "merged", "removed") if corpus.meta.get(name)}
    return facts | more


def _sums(tables: Sequence[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Figures of sources, added up."""
    found: dict[str, dict[str, int]] = {}
    for table in tables:
        for name, figures in table.items():
            sums = found.setdefault(name, dict.fromkeys(figures, 0))
            for key, value in figures.items():
                sums[key] = sums.get(key, 0) + value
    return found


def _mixture(corpora: Sequence[Corpus], now: dict[str, described.Figures]) -> dict[str, dict[str, Any]]:
    """What stands in the training split, by source, beside what was asked of each source in all corpora together, where
    they all asked by source."""
    asked: Counter[str] = Counter()
    if all(described.by_source(corpus.meta) for corpus in corpora):
        for corpus in corpora:
            for name, one in corpus.meta["mixture"].items():
                asked[name] += one["tokens_asked"]
    whole = asked.total()
    return {
        name: {
            "documents": one.documents,
            "tokens": one.once,
            "share_asked": round(asked[name] / whole, 9) if whole else None,
            "tokens_asked": asked[name] if whole else None,
            "tokens_reached": one.tokens,
            "epochs": round(one.tokens / one.once, 6) if one.once else 0.0,
            "copies": one.copies,
        }
        for name, one in now.items()
    }


def _plan(corpora: Sequence[Corpus]) -> dict[str, Any]:
    """One plan of several: each keeps its budget, or else the tokens that it has."""
    plans = [corpus.mixture() for corpus in corpora]
    budgets = [
        plan["tokens"] or sum(one["tokens_asked"] or one["tokens"] for one in plan["groups"].values()) for plan in plans
    ]
    groups: dict[str, dict[str, Any]] = {}
    for plan, budget in zip(plans, budgets, strict=True):
        for name, one in plan["groups"].items():
            mine = groups.setdefault(
                name, {"share": 0.0, "tokens": 0, "max_epochs": one["max_epochs"], "tokens_asked": 0}
            )
            mine["share"] += one["share"] * budget
            mine["tokens"] += one["tokens"]
            mine["max_epochs"] = min(mine["max_epochs"], one["max_epochs"])
            mine["tokens_asked"] += one["tokens_asked"] or 0
    whole = float(np.sum([one["share"] for one in groups.values()]))
    for one in groups.values():
        one["share"] = one["share"] / whole if whole else 1 / len(groups)
    tokens = sum(plan["tokens"] for plan in plans) if all(plan["tokens"] for plan in plans) else None
    return dict(plans[0]) | {"tokens": tokens, "groups": groups}
