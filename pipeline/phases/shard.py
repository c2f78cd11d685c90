"""Phases plan and shard: the mixture, one global order, and the shards that hold it.

`plan` sees of each document its id, source, URL and length, and says which copy of which document stands
where (a few hundred bytes a document in memory, its URL included). `shard` writes one shard a unit, reading of
each part of tokens only the row groups that it needs. `finish` describes them all in `corpus.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import __version__, ids, mixture, pins, splits
from pipeline.errors import UserError
from pipeline.ledger import Part, Row, Staged, digest_of, write_durably
from pipeline.phases import tokenise, tokenizer
from pipeline.progress import Reporter
from pipeline.recipe import BOUNDARY_ROLES, Mixture
from pipeline.shards import FORMAT, FORMAT_VERSION, corpus_bytes, shard_name, token_dtype, write_shard
from pipeline.work import Context, Task, once, unit_key

TRAIN, VALIDATION = "train", "validation"
PLAN = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("shard", pa.int32()),
        pa.field("part", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("copy", pa.int32()),
    ]
)
"""One row for each document's copy in a shard, in order; `part` is its place in the list of token parts, which
the file's metadata hold."""


@once
def plan_tasks(context: Context) -> list[Task]:
    """One unit over all parts of tokens; none where the recipe asks for no shards."""
    recipe = context.recipe
    if recipe.shards is None:
        return []
    parts = tokenise.parts(context)
    facts = {
        "parts": [part.digest for part in parts],
        "mixture": recipe.mixture.model_dump() if recipe.mixture else None,
        "tokens_per_shard": recipe.shards.tokens_per_shard,
        "validation": recipe.shards.validation,
        "sources": sorted(recipe.sources),
        "trial": context.trial.given,
        "seed": recipe.seed,
    }
    key = unit_key("plan", ("tldextract",), facts)
    return [Task("plan", key, sum(part.bytes for part in parts), {"paths": [part.path for part in parts]})]


def plan_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Which copy of which document stands where."""
    recipe = context.recipe
    assert recipe.shards is not None
    tables = [
        pq.read_table(context.out / path, columns=["id", "source", "url", "n_tokens"]) for path in task.spec["paths"]
    ]
    table = pa.concat_tables(tables)
    part = np.repeat(np.arange(len(tables)), [one.num_rows for one in tables])
    row = np.concatenate([np.zeros(0, np.int64), *(np.arange(one.num_rows) for one in tables)])
    matrix = ids.matrix(table.column("id"))
    source = np.array(table.column("source").to_pylist(), object)
    lengths = table.column("n_tokens").to_numpy() + 1  # the boundary token
    held = splits.in_validation(table.column("url"), matrix, recipe.seed, recipe.shards.validation)
    _check_splits(held, 0.0 if context.trial.given else recipe.shards.validation)
    settings = recipe.mixture or Mixture()  # type: ignore[call-arg]
    rows_of = {name: np.flatnonzero((source == name) & ~held) for name in recipe.sources}
    planned = mixture.plan(
        {name: (matrix[rows], lengths[rows]) for name, rows in rows_of.items()},
        settings.shares or None,
        None if context.trial.given else settings.tokens,
        settings.max_epochs,  # type: ignore[arg-type]  # B: by group
        recipe.seed,
    )
    copies = {TRAIN: np.zeros(table.num_rows, np.int32), VALIDATION: held.astype(np.int32)}
    for name, rows in rows_of.items():
        copies[TRAIN][rows] = planned[name].copies
    found, shards = [], {}
    for split in (TRAIN, VALIDATION):
        document, copy = mixture.shuffle_order(matrix, copies[split], recipe.seed)
        cuts = mixture.assign_shards(lengths[document], recipe.shards.tokens_per_shard)
        shards[split] = len(cuts) - 1
        number = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
        columns = [pa.array([split] * len(document), pa.string()), number, part[document], row[document], copy]
        found.append(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, PLAN, strict=True)], schema=PLAN))
    plan = pa.concat_tables(found).replace_schema_metadata({"parts": json.dumps(task.spec["paths"])})
    pq.write_table(plan, folder / "plan", compression="zstd")
    reporter.add(size=task.size)
    sources = {
        name: {
            "documents": len(rows_of[name]),
            "tokens": one.available,
            "share_asked": round(one.share, 9),
            "tokens_asked": one.asked,
            "tokens_reached": one.reached,
            "epochs": round(one.epochs, 6),
            "copies": int(one.copies.sum()),
        }
        for name, one in planned.items()
    }
    body = {"shards": shards, "mixture": sources}
    return [Staged(folder / "plan", f"plan/{task.key[:20]}.parquet")], body


def _check_splits(held: np.ndarray[Any, Any], share: float) -> None:
    if not len(held):
        raise UserError("no document is left to write into shards; `corpusmill inspect` shows where they went")
    if held.all():
        raise UserError(f"shards.validation {share:g} took every document, so none is left to train on; lower it")
    if share and not held.any():
        raise UserError(
            f"shards.validation {share:g} took no document: whole registered domains are held out, and no domain's "
            "hash fell below it. Raise it, or set it to 0 for no validation split."
        )


def _plan_row(context: Context) -> Row | None:
    for task in plan_tasks(context):
        return context.ledger.read_row("plan", task.key)
    return None


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each shard."""
    plan = _plan_row(context)
    if plan is None or context.recipe.shards is None:
        return []
    part = plan.part("plan")
    parts: list[Part] = tokenise.parts(context)
    row = tokenizer.committed(context)
    boundary = context.recipe.shards.boundary
    role = BOUNDARY_ROLES[boundary]
    digest = digest_of([one.digest for one in parts])
    paths = tuple(one.path for one in parts)
    size = sum(one.bytes for one in parts) // max(1, sum(plan.body["shards"].values()))
    found = []
    for split, count in plan.body["shards"].items():
        for number in range(count):
            spec = {
                "split": split, "number": number, "of": count, "boundary": boundary,
                "token": row.body["special"][role], "vocabulary": row.body["vocabulary"],
            }  # fmt: skip
            facts = spec | {"plan": part.digest, "parts": digest}
            found.append(Task("shard", unit_key("shard", (), facts), size, spec | {"plan": part.path}, paths))
    return found


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """One shard: its three files."""
    spec = task.spec
    table, place, copy = _gather(spec, context.out)
    names = [name for name in table.schema.names if name not in ("tokens", "n_tokens")]
    first = [pa.field("id", pa.binary(16)), pa.field("copy", pa.int32())]
    schema = pa.schema([*first, *(table.schema.field(name).remove_metadata() for name in names if name != "id")])
    dtype = token_dtype(spec["vocabulary"])
    name = shard_name(spec["split"], spec["number"], spec["of"])

    def documents() -> Iterator[tuple[np.ndarray[Any, Any], dict[str, Any]]]:
        edge = np.array([spec["token"]], dtype)
        for start in range(0, len(place), 1024):
            taken = table.take(pa.array(place[start : start + 1024])).combine_chunks()
            tokens = taken.column("tokens").combine_chunks()
            rows = taken.select(names).to_pylist()
            for index, row in enumerate(rows):
                values = tokens[index].values.to_numpy()
                bounded = (values, edge) if spec["boundary"] == "eot-last" else (edge, values)
                yield np.concatenate(bounded), row | {"copy": int(copy[start + index])}
            reporter.add(documents=len(rows), kept=len(rows), size=task.size * len(rows) // max(1, len(place)))

    facts = write_shard(folder / name, documents(), dtype, schema)
    endings = (".bin", ".idx", ".docs.parquet")
    staged = [Staged(folder / f"{name}{ending}", f"shards/{name}{ending}") for ending in endings]
    return staged, facts | {"stem": f"shards/{name}", "split": spec["split"], "number": spec["number"]}


def _gather(spec: dict[str, Any], out: Path) -> tuple[pa.Table, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The rows that a shard needs, and which of them, and which copy, stands at each place of it."""
    chosen = (("split", "=", spec["split"]), ("shard", "=", spec["number"]))
    plan = pq.read_table(out / spec["plan"], filters=list(chosen))
    paths = [out / path for path in json.loads(plan.schema.metadata[b"parts"])]
    part, row = plan.column("part").to_numpy(), plan.column("row").to_numpy()
    place = np.zeros(len(part), np.int64)
    tables: list[pa.Table] = []
    start = 0
    for number in np.unique(part).tolist():
        here = part == number
        wanted, inverse = np.unique(row[here], return_inverse=True)
        place[here] = start + inverse
        tables.append(_rows(paths[number], wanted))
        start += len(wanted)
    table = pa.concat_tables(tables) if tables else pq.read_schema(paths[0]).empty_table()
    return table, place, plan.column("copy").to_numpy()


def _rows(path: Path, wanted: np.ndarray[Any, Any]) -> pa.Table:
    """These rows (ascending) of a part; only the row groups that hold one are read."""
    found = []
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = wanted[(wanted >= start) & (wanted < start + count)] - start
            if len(here):
                found.append(file.read_row_group(group).take(pa.array(here)))
            start += count
    return pa.concat_tables(found)


def finish(context: Context) -> None:
    """Writes `corpus.json` over the committed shards, or removes it where the recipe asks for none."""
    path = context.out / "corpus.json"
    plan = _plan_row(context)
    if plan is None or context.recipe.shards is None:
        path.unlink(missing_ok=True)
        return
    rows = [context.ledger.read_row("shard", task.key) for task in tasks(context)]
    model = tokenizer.committed(context)
    done: dict[str, Any] = {}
    for split in plan.body["shards"]:
        shards = sorted(
            (row.body for row in rows if row and row.body["split"] == split), key=lambda body: body["number"]
        )
        if not shards:
            continue
        done[split] = {
            "documents": sum(shard["documents"] for shard in shards),
            "tokens": sum(shard["tokens"] for shard in shards),
            "shards": [{name: shard[name] for name in ("stem", "documents", "tokens", "files")} for shard in shards],
        }
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": context.recipe.name,
        "created_by": f"corpusmill {__version__}",
        "dtype": token_dtype(model.body["vocabulary"]).name,
        "vocabulary": model.body["vocabulary"],
        "boundary": context.recipe.shards.boundary,
        "layout": context.recipe.shards.layout,
        "tokenizer": {name: model.body[name] for name in ("file", "kind", "digest", "special", "options", "engine")},
        "mixture": plan.body["mixture"],
        "sources": _sources(context),
        "splits": done,
        "recipe": portable(context),
    }
    if pinned := pins.of_rows(context.ledger):
        meta["pins"] = {"documents": len(pinned), "file": pins.NAME, "digest": pins.digest(pinned)}
    if context.trial.given:
        meta["trial"] = vars(context.trial)
    text = corpus_bytes(meta)
    if not path.exists() or path.read_bytes() != text:
        write_durably(path, text, context.ledger.scratch)


def portable(context: Context) -> dict[str, Any]:
    """The recipe with its files named from its own folder, so that it says the same on any machine."""
    data = context.recipe.model_dump(mode="json")

    def near(path: str) -> str:
        return os.path.relpath(path, context.folder)

    for item in data["inputs"]:
        item["path"] = near(item["path"]) if isinstance(item["path"], str) else [near(path) for path in item["path"]]
    if data["tokenizer"] and data["tokenizer"]["file"]:
        data["tokenizer"]["file"] = near(data["tokenizer"]["file"])
    if data["pins"]:
        data["pins"] = near(data["pins"])
    return data


def _sources(context: Context) -> dict[str, dict[str, int]]:
    """Documents, characters and tokens of each source before the mixture."""
    found: dict[str, list[int]] = {name: [0, 0, 0] for name in context.recipe.sources}
    for row in context.ledger.rows("tokenise"):
        for name, figures in row.body["sources"].items():
            found[name] = [a + b for a, b in zip(found[name], figures, strict=True)]
    return {
        name: dict(zip(("documents", "characters", "tokens"), figures, strict=True)) for name, figures in found.items()
    }
