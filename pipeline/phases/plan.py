"""Phase plan: the splits, the mixture, one global order, and where shards end.

It sees of each document its id, length and split hash, and what groups it (a few tens of bytes a document in memory),
and says which copy of which document stands where.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import grouping, ids, mixture, shuffle, splits, token_parts
from pipeline.errors import UserError
from pipeline.ledger import Row, Staged
from pipeline.phases import tokenise
from pipeline.progress import Reporter
from pipeline.recipe import Mixture, Recipe, Shards
from pipeline.splits import TRAIN
from pipeline.work import Context, Task, once, unit_key

PLAN = pa.schema([pa.field(name, pa.int32()) for name in ("part", "row", "copy", "length")])
"""One row for each document's copy, in order, and one batch for each shard, in the order of the row's `shards`; `part`
is a place in the list of token parts, which the file's metadata hold, `row` one in that part, `length` its tokens
without the boundary token."""
MOST_GROUPS = 10_000
"""Groups of layout `by_source`, at most: each is three files a split."""
NAMED = 20
"""Domains too large for a split that are named, at most."""

Numbers = npt.NDArray[np.int64]


@once
def tasks(context: Context) -> list[Task]:
    """One unit over all parts of tokens; none where the recipe asks for no shards."""
    recipe = context.recipe
    if recipe.shards is None:
        return []
    parts = [table for table, _ in tokenise.parts(context)]
    facts = {
        "parts": [part.digest for part in parts],
        "mixture": recipe.mixture.model_dump() if recipe.mixture else None,
        "shards": recipe.shards.model_dump(exclude={"boundary"}),
        "sources": sorted(recipe.sources),
        "trial": context.trial.given,
        "seed": recipe.seed,
    }
    key = unit_key("plan", (), facts)
    return [Task("plan", key, sum(part.bytes for part in parts), {"paths": [part.path for part in parts]})]


@once
def committed(context: Context) -> Row | None:
    """The manifest row of the plan; None where there is none (yet)."""
    for task in tasks(context):
        return context.ledger.read_row("plan", task.key)
    return None


@dataclass
class Documents:
    """All documents, in the order of the token parts."""

    ids: ids.Ids
    tokens: npt.NDArray[np.int32]
    """With the boundary token."""
    split_hash: npt.NDArray[np.uint64]
    part: npt.NDArray[np.int32]
    starts: Numbers
    """(parts,) the first document of each part."""
    names: list[str]
    """The groups."""
    group: npt.NDArray[np.int32]
    """The place of each document's group among them."""


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Which copy of which document stands where."""
    recipe = context.recipe
    assert recipe.shards is not None
    paths = context.files(task.spec["paths"])
    asked = recipe.mixture or Mixture()  # type: ignore[call-arg]
    documents = _read(paths, asked, recipe)
    shares = recipe.shards.held_out
    held = splits.held_out(documents.split_hash, documents.tokens, shares, recipe.seed)
    training = np.ones(len(documents.ids), bool)
    for split in held.values():
        training[split.rows] = False
    out_of = {name: _left_out(split, paths, documents) for name, split in held.items()}
    if not context.trial.given:
        _check_splits(training, held, shares, out_of)
    elif not len(training):
        _check_splits(training, {}, {}, {})
    targets = _targets(documents, training, asked, context)
    by_source = recipe.shards.layout == "by_source"
    if by_source and len(documents.names) > MOST_GROUPS:
        raise UserError(
            f"shards.layout by_source: mixture.by makes {len(documents.names):,} groups, and each would have files of "
            f"its own; at most {MOST_GROUPS:,} may. Group by a column of fewer values, or cut one with `buckets`."
        )
    copies = training.astype(np.int32)
    if not by_source:
        copies[training] = mixture.copies(
            documents.ids[training], documents.tokens[training], documents.group[training], list(targets.values()),
            recipe.seed,
        )  # fmt: skip
    if not context.trial.given and not (copies.any() and any(one.asked for one in targets.values())):
        raise UserError(
            f"mixture.max_epochs {asked.max_epochs} is less than one document of any group, so none is left to train "
            "on; raise it"
        )
    shards: list[dict[str, Any]] = []
    schema = PLAN.with_metadata({"parts": json.dumps(task.spec["paths"])})
    with pa.OSFile(str(folder / "plan"), "wb") as file, pa.ipc.new_file(file, schema) as out:
        for name in (TRAIN, *held):
            here = copies
            if name != TRAIN:
                here = np.zeros(len(training), np.int32)
                here[held[name].rows] = 1
            for group, document, copy in _order(documents, here, recipe.seed, by_source):
                shards += _write(out, documents, document, copy, {"split": name, "group": group}, recipe.shards)
    reporter.add(size=task.size)
    body = {
        "shards": shards,
        "by": asked.by,
        "mixture": _figures(documents, training, copies, targets),
        "splits": {
            name: {"share": share, "documents": len(held[name].rows),
                   "tokens": int(documents.tokens[held[name].rows].sum(dtype=np.int64)), "left_out": out_of[name]}
            for name, share in shares.items()
        },
    }  # fmt: skip
    return [Staged(folder / "plan", f"plan/{task.key[:20]}.arrow")], body


def _read(paths: list[Path], asked: Mixture, recipe: Recipe) -> Documents:
    """What the plan goes by, of all parts; each is mapped only while it is read."""
    places: dict[str, int] = {
        name: place for place, name in enumerate(recipe.sources if asked.by == ["source"] else [])
    }
    found: dict[str, list[npt.NDArray[Any]]] = {"ids": [], "tokens": [], "split_hash": [], "part": [], "group": []}
    marked = [np.zeros(0, np.int64)]
    survivors = [np.zeros((0, 16), np.uint8)]
    starts = [0]
    for number, path in enumerate(paths):
        table = token_parts.opened(path)
        grouping.check(asked.by, asked.buckets, table.schema)
        names, codes = grouping.groups_of(table, asked.by, asked.buckets)
        found["ids"].append(ids.matrix(table.column("id")).copy())
        found["tokens"].append(table.column("n_tokens").to_numpy().astype(np.int32) + np.int32(1))
        found["split_hash"].append(table.column("split_hash").to_numpy().copy())
        found["part"].append(np.full(table.num_rows, number, np.int32))
        found["group"].append(np.array([places.setdefault(name, len(places)) for name in names], np.int32)[codes])
        if "duplicate_of" in table.schema.names:
            column = table.column("duplicate_of")
            marked.append(starts[-1] + np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)))
            survivors.append(ids.matrix(column.drop_null()).copy())
        starts.append(starts[-1] + table.num_rows)
    names = list(places)
    group = _whole(found.pop("group"), np.int32)
    if asked.by != ["source"]:  # in an order of their own, not that of the parts
        order = sorted(range(len(names)), key=lambda place: names[place])
        group = np.argsort(order).astype(np.int32)[group]
        names = [names[place] for place in order]
    matrix = np.concatenate([np.zeros((0, 16), np.uint8), *found.pop("ids")])
    hashes = _whole(found.pop("split_hash"), np.uint64)
    _follow_survivors(hashes, matrix, np.concatenate(marked), np.concatenate(survivors), recipe.seed)
    return Documents(
        matrix, _whole(found.pop("tokens"), np.int32), hashes, _whole(found.pop("part"), np.int32),
        np.array(starts[:-1], np.int64), names, group,
    )  # fmt: skip


def _whole(pieces: list[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *pieces])


def _follow_survivors(
    hashes: npt.NDArray[np.uint64], matrix: ids.Ids, marked: Numbers, survivors: ids.Ids, seed: int
) -> None:
    """Duplicates that stay (`mode: mark`) fall into the split of the document that they are duplicates of, whatever
    their own domain is: else what is trained on would be measured. Of a survivor in an earlier crawl only the id is
    known, so its duplicates stay together, but know nothing of where it went."""
    if not len(marked):
        return
    order = ids.ascending(matrix)
    known = np.searchsorted(_keys(matrix)[order], _keys(survivors))
    place = order[np.minimum(known, len(order) - 1)]
    found = (matrix[place] == survivors).all(axis=1)
    of_id = splits.split_hashes(pa.nulls(len(survivors), pa.string()), survivors, seed)
    hashes[marked] = np.where(found, hashes[place], of_id)


def _keys(matrix: ids.Ids) -> npt.NDArray[Any]:
    """Ids as values that sort as their bytes do."""
    high, low = ids.halves(matrix)
    keys = np.empty(len(matrix), [("high", np.uint64), ("low", np.uint64)])
    keys["high"], keys["low"] = high, low
    return keys


def _left_out(split: splits.Split, paths: list[Path], documents: Documents) -> dict[str, Any]:
    """The domains that are too large for a split, the largest by name."""
    named = []
    pairs = zip(split.left_out[:NAMED].tolist(), split.left_out_tokens[:NAMED].tolist(), strict=True)
    for document, tokens in pairs:
        part = int(documents.part[document])
        row = token_parts.opened(paths[part]).slice(document - int(documents.starts[part]), 1)
        url = row.column("url")[0].as_py()
        name = splits.domain_of(url) or f"document {row.column('id')[0].as_py().hex()}"
        named.append({"domain": name, "tokens": tokens})
    return {"domains": len(split.left_out), "tokens": int(split.left_out_tokens.sum()), "largest": named}


def _check_splits(
    training: npt.NDArray[np.bool_],
    held: dict[str, splits.Split],
    shares: dict[str, float],
    left_out: dict[str, dict[str, Any]],
) -> None:
    if not len(training):
        raise UserError("no document is left to write into shards; `corpusmill inspect` shows where they went")
    keys = {name: "shards.validation" if name == splits.VALIDATION else f"shards.splits.{name}" for name in shares}
    if not training.any():
        taken = ", ".join(f"{keys[name]} {share:g}" for name, share in shares.items() if share)
        raise UserError(f"{taken} took every document, so none is left to train on; lower it")
    for name, share in shares.items():
        if not share or len(held[name].rows):
            continue
        why = "no domain's hash fell below it"
        if left_out[name]["domains"]:
            one = left_out[name]["largest"][0]
            why = (
                f"the {left_out[name]['domains']} that were drawn hold each more than a quarter of what the split "
                f"should have ({one['domain']} {one['tokens']:,} tokens)"
            )
        raise UserError(
            f"{keys[name]} {share:g} took no document: whole registered domains are held out, and {why}. "
            f"Raise it, change `seed`, or set it to 0 for no {name} split."
        )


def _targets(
    documents: Documents, training: npt.NDArray[np.bool_], asked: Mixture, context: Context
) -> dict[str, mixture.Target]:
    sums = np.bincount(documents.group[training], documents.tokens[training], len(documents.names)).astype(np.int64)
    available = dict(zip(documents.names, sums.tolist(), strict=True))
    wish = mixture.Wish(asked.tokens, asked.shares or None, asked.temperature, asked.max_epochs)
    if all(column == "source" or column in asked.buckets for column in asked.by):
        # the recipe's check knows the names of these groups: one that is not here has no documents
        capped = asked.max_epochs if isinstance(asked.max_epochs, dict) else {}
        named = {name for name in (*asked.shares, *capped) if name.count("/") == len(asked.by) - 1}
        available |= dict.fromkeys(sorted(named - {mixture.OTHERS, *available}), 0)
    if context.trial.given:  # it may lack whole groups, and its tokens are few
        there = {name for name, amount in available.items() if amount}
        there |= {mixture.OTHERS} if there - {*asked.shares} else set()
        shares = {name: share for name, share in asked.shares.items() if name in there}
        whole = sum(shares.values())
        available = {name: amount for name, amount in available.items() if amount}
        limits = wish.max_epochs
        if isinstance(limits, dict):
            limits = {name: limit for name, limit in limits.items() if name in available or name == mixture.OTHERS}
        scaled = {name: share / whole for name, share in shares.items()} if whole else None
        wish = dataclasses.replace(wish, tokens=None, shares=scaled, max_epochs=limits)
    found = mixture.targets(available, wish)
    return {name: found.get(name, mixture.Target(0, 0.0, 0, 0.0)) for name in documents.names}


def _order(
    documents: Documents, copies: npt.NDArray[np.int32], seed: int, by_group: bool
) -> list[tuple[str | None, Numbers, npt.NDArray[np.int32]]]:
    """Documents and copies in the order in which they are written; of each group by itself, or (None) of all."""
    groups = documents.group if by_group else None
    document, copy = shuffle.shuffle_order(documents.ids, copies, seed, groups)
    if groups is None:
        return [(None, document, copy)]
    cuts = np.searchsorted(groups[document], np.arange(len(documents.names) + 1))
    return [
        (name, document[start:stop], copy[start:stop])
        for name, start, stop in zip(documents.names, cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
    ]


def _write(
    out: Any,
    documents: Documents,
    document: Numbers,
    copy: npt.NDArray[np.int32],
    where: dict[str, Any],
    shards: Shards,
) -> list[dict[str, Any]]:
    """Writes the batches of the shards that hold these documents: what the row says of each shard."""
    lengths = documents.tokens[document]
    cuts = shuffle.assign_shards(lengths, shards.tokens_per_shard)
    found = []
    for number in range(len(cuts) - 1):
        here = slice(cuts[number], cuts[number + 1])
        part = documents.part[document[here]]
        row = (document[here] - documents.starts[part]).astype(np.int32)
        columns = [part, row, copy[here], lengths[here] - np.int32(1)]
        out.write_batch(pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=PLAN))
        tokens = int(lengths[here].sum(dtype=np.int64))
        found.append(where | {"number": number, "of": len(cuts) - 1, "documents": len(part), "tokens": tokens})
    return found


def _figures(
    documents: Documents,
    training: npt.NDArray[np.bool_],
    copies: npt.NDArray[np.int32],
    targets: dict[str, mixture.Target],
) -> dict[str, dict[str, Any]]:
    """What the mixture asked of each group and what it got."""
    size = len(documents.names)
    rows = np.bincount(documents.group[training], minlength=size).tolist()
    taken = np.bincount(documents.group, copies, size).astype(np.int64).tolist()
    reached = np.bincount(documents.group, copies * documents.tokens.astype(np.int64), size).astype(np.int64).tolist()
    return {
        name: {
            "documents": rows[place],
            "tokens": one.available,
            "share_asked": round(one.share, 9),
            "tokens_asked": one.asked,
            "tokens_reached": reached[place],
            "epochs": round(reached[place] / one.available, 6) if one.available else 0.0,
            "copies": taken[place],
            "max_epochs": one.cap,
        }
        for place, (name, one) in enumerate(targets.items())
    }
