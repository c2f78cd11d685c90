"""A run folder of any size, made without a run: for benchmarks of what looks into one.

`python -m tests.bench.big_run DIR --documents 10_000_000` writes parts, manifest rows, recipe and context as a run of
clean, deduplication and documents leaves them, with invented texts of about 200 characters in six languages; one row
group in its parts is as large as a run's. Books balance, duplicates lie in the part of their survivor, measures fit
what was dropped. The same documents and seed give the same parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from pipeline import measures
from pipeline.ledger import Ledger, Staged
from pipeline.parts import ROWS
from pipeline.phases.clusters import DUPLICATES
from pipeline.recipe import Recipe
from pipeline.work import Context
from stages.schema import DOCUMENTS, DROPPED, ORIGIN

PART = 50_000
"""Documents of a part that are left at the end."""
SHARES = {"request": 0.15, "low_score": 0.1, "gopher": 0.25, "toxic": 0.004, "duplicate": 0.05}
"""Of how many a part drops, for each document that is left."""
LANGUAGES = {
    "en": "the of river market people small green evening letter under house bright song and quiet morning with",
    "de": "der die Straße und klein Abend Wasser grün Haus mit unter Brief Leute Markt stille Morgen Lied",
    "fr": "le la rivière marché petit vert soir lettre sous maison et chanson matin avec gens calme été",
    "ru": "река рынок люди маленький зелёный вечер письмо под дом песня и тихий утро с яркий свет",
    "ar": "نهر سوق ناس صغير أخضر مساء رسالة تحت بيت أغنية و هادئ صباح مع ضوء",
    "zh": "河流 市场 人们 小 绿色 晚上 信 下面 房子 歌 和 安静 早晨 明亮 光",
}
ODDS = (0.5, 0.14, 0.12, 0.1, 0.06, 0.08)
SOURCES = ("web", "forum", "books")
HOSTS = 200_000
SENTENCES = 500
"""Different ones of a language."""
LIMITS = {
    "min_words": 50.0, "max_words": 100_000.0, "min_word_length": 3.0, "max_word_length": 10.0, "max_symbols": 0.1,
    "max_bullet_lines": 0.9, "max_ellipsis_lines": 0.3, "min_alphabetic": 0.8, "min_stop_words": 2.0,
}  # fmt: skip
REASONS = {
    "min_words": "few_words", "min_word_length": "word_length", "max_symbols": "symbols", "max_bullet_lines": "bullets",
    "min_alphabetic": "alphabetic", "min_stop_words": "stop_words",
}  # fmt: skip
"""Of the rules that drop something here."""
SCORES = pa.schema(
    [("language_score", pa.float32()), ("toxic_words", pa.int32()), ("toxic_share", pa.float32()),
     ("extraction_score", pa.float32())]
)  # fmt: skip
CLEAN = pa.schema([*DOCUMENTS, *SCORES])
KEPT = pa.schema([*CLEAN, ("cluster_size", pa.int32()), ("characters", pa.int32())])
MEASURES = pa.schema(
    [("id", pa.binary(16)), *((f"gopher_quality.{name}", pa.float32()) for name in LIMITS),
     ("gopher_quality.broken", pa.uint32())]
)  # fmt: skip
RECIPE = {
    "name": "big",
    "inputs": [
        {"source": source, "path": f"crawl/{source}-*.jsonl", "format": "jsonl"} for source in SOURCES
    ],
    "stages": [{"extract": {}}, {"language": {"min_score": 0.65}}, {"gopher_quality": {}}, {"toxicity": {}}],
    "dedup": {"near": {"threshold": 0.8}},
}  # fmt: skip
Rng = np.random.Generator


@dataclass(frozen=True)
class Unit:
    """What is written of one part."""

    number: int
    documents: int
    seed: int
    folder: Path


def make(folder: Path, documents: int, seed: int = 1, workers: int = 2) -> None:
    """Writes the run folder, which is not there yet, with so many documents that are left."""
    recipe = Recipe.model_validate(RECIPE)
    ledger = Ledger(folder)
    ledger.folder.mkdir(parents=True)
    ledger.create(recipe.name)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")), "utf-8")
    (ledger.folder / "context.json").write_text(json.dumps(Context(folder, folder, recipe).to_json()), "utf-8")
    scratch = ledger.attempt()
    sizes = [PART] * (documents // PART) + ([documents % PART] if documents % PART else [])
    units = [Unit(number, size, seed, scratch) for number, size in enumerate(sizes)]
    entered, clusters, dropped = 0, dict[str, int](), 0
    with ProcessPoolExecutor(workers) as pool:
        for unit, bodies in zip(units, pool.map(write, units), strict=True):
            for phase, (files, body) in bodies.items():
                staged = [Staged(scratch / f"{unit.number:05d}-{name}", final) for name, final in files.items()]
                ledger.commit(phase, key(phase, unit), staged, body | {"timing": timing(phase, unit.documents)})
            entered += bodies["clean"][1]["kept"]
            dropped += bodies["losers"][1]["losers"]
            for size, count in bodies["documents"][1]["clusters"].items():
                clusters[size] = clusters.get(size, 0) + count
            del bodies["documents"][1]["clusters"]
    body = {"entered": entered, "dropped": {"dedup.near_duplicate": dropped}, "marked": {}, "taken_apart": 0}
    ledger.commit("clusters", "0" * 32, [], body | {"clusters": clusters, "timing": timing("clusters", documents)})
    shutil.rmtree(scratch)
    ledger.set_complete(True)


def key(phase: str, unit: Unit) -> str:
    """The key of a unit's row."""
    return f"{unit.number:05d}{unit.seed:03d}".ljust(32, "0")


def timing(phase: str, documents: int) -> dict[str, Any]:
    """As a run would have measured it."""
    found: dict[str, Any] = {"cpu_s": round(documents * {"clean": 4e-3, "losers": 1e-5}.get(phase, 1e-4), 3)}
    if phase == "clean":
        shares = {"extract": 2e-3, "language": 2e-4, "gopher_quality": 3e-4, "toxicity": 1e-4}
        found |= {"stages": {stage: round(documents * share, 3) for stage, share in shares.items()}}
        found |= {"peak_rss": 512 << 20, "children_s": 0.0}
    return found


def write(unit: Unit) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """The files of a unit, in its folder; by phase their final names and the body of its manifest row."""
    rng = np.random.Generator(np.random.PCG64([unit.seed, unit.number]))
    counts = {name: int(unit.documents * share) for name, share in SHARES.items()}
    total = unit.documents + sum(counts.values())
    table = documents(rng, total, unit.number)
    # Where each fate ends, in the order of the table.
    kept, lost = unit.documents, unit.documents + counts["duplicate"]
    lost_to = rng.integers(0, kept, counts["duplicate"])  # mostly pairs
    many = rng.random(counts["duplicate"]) < 0.3
    lost_to[many] = np.minimum(rng.zipf(1.4, int(many.sum())) * 7, kept) - 1
    texts = table.column("text").combine_chunks()
    near = pc.binary_join_element_wise(pc.take(texts, lost_to), texts.slice(kept, counts["duplicate"]), " ")
    texts = pa.concat_arrays([texts.slice(0, kept), near, texts.slice(lost)])
    table = table.set_column(table.schema.get_field_index("text"), "text", texts)
    sizes = np.bincount(lost_to, minlength=kept) + 1
    clean = table.slice(0, lost)
    judged = measured(rng, clean.column("id").combine_chunks(), lost, table, counts)
    left = clean.slice(0, kept)
    left = left.append_column("cluster_size", pa.array(sizes.astype(np.int32)))
    left = left.append_column("characters", pc.utf8_length(left.column("text")))
    stem = key("", unit)[:20]
    _save(unit, "clean", clean.cast(CLEAN))
    _save(unit, "documents", left.cast(KEPT))
    _save(unit, "measures", judged.cast(MEASURES))
    dropped, funnel = _dropped(rng, table.slice(lost), judged, counts, total, lost)
    _save(unit, "dropped", dropped)
    losers = clean.slice(kept)
    duplicates = _duplicates(rng, losers, left, lost_to, sizes)
    _save(unit, "duplicates", duplicates)
    reasons = pa.array(["dedup.near_duplicate"]).take(pa.array(np.zeros(losers.num_rows, np.int64)))
    lost_rows = _dropped_table(losers, ["dedup"], reasons, duplicates.column("similarity"), 0.8)
    survivor = duplicates.column("survivor")
    _save(unit, "lost", lost_rows.set_column(DROPPED.get_field_index("survivor"), "survivor", survivor).cast(DROPPED))
    size = int(pc.sum(pc.binary_length(texts)).as_py())
    path = f"/crawl/{SOURCES[unit.number % 3]}-{unit.number:05d}.jsonl"
    body = {
        "input": {
            "source": SOURCES[unit.number % 3], "path": path, "name": path.rpartition("/")[2], "digest": stem,
            "start": 0, "end": size, "format": "jsonl", "fields": [], "options": [],
        },
        "made_with": {}, "framed": total, "not_sampled": 0, "kept": lost, "dropped": dropped.num_rows, "spans": size,
        "structure": 0, "gaps": [], "funnel": funnel, "pins": [],
    }  # fmt: skip
    power, number = np.unique(sizes[sizes > 1], return_counts=True)
    clusters = dict(zip(map(str, power.tolist()), number.tolist(), strict=True))
    return {
        "clean": (
            {
                "clean": f"clean/{stem}-000.parquet",
                "dropped": f"dropped/clean-{stem}.parquet",
                "measures": f"{measures.FOLDER}/{stem}.parquet",
            },
            body,
        ),
        "losers": (
            {"duplicates": f"duplicates/{stem}.parquet", "lost": f"dropped/dedup-{stem}.parquet"},
            {"documents": lost, "losers": losers.num_rows, "dropped": losers.num_rows},
        ),
        "documents": (
            {"documents": f"documents/{stem}.parquet"},
            {
                "documents": kept,
                "sources": _sums(left, "source"),
                "languages": _sums(left, "language"),
                "clusters": clusters,
            },
        ),
    }


@cache
def _sentences() -> tuple[pa.Array, list[tuple[int, int]]]:
    """Sentences of all languages, and from where to where those of each stand."""
    rng = np.random.Generator(np.random.PCG64(0))
    found: list[str] = []
    spans = []
    for language, words in LANGUAGES.items():
        known, blank, stop = words.split(), *(("", "。") if language == "zh" else (" ", "."))
        begin = len(found)
        for _ in range(SENTENCES):
            chosen = [known[place] for place in rng.integers(0, len(known), rng.integers(5, 12))]
            found.append(blank.join(chosen).capitalize() + stop)
        spans.append((begin, len(found)))
    return pa.array(found), spans


@cache
def _hosts() -> pa.Array:
    names = pa.array("tal berg nova lumen orto kasa mira velo pano zeta rio dell".split())
    numbers = np.arange(HOSTS)
    parts = [names.take(pa.array(numbers // 12**power % 12)) for power in range(3)]
    return pc.binary_join_element_wise(*parts, pa.array(numbers).cast(pa.string()), pa.scalar(".example"), "")


def documents(rng: Rng, rows: int, part: int) -> pa.Table:
    """Documents of one source with the columns of the clean phase."""
    sentences, spans = _sentences()
    languages = rng.choice(len(LANGUAGES), rows, p=ODDS)
    low, high = (np.array(ends)[languages] for ends in zip(*spans, strict=True))
    pieces = [sentences.take(pa.array(rng.integers(low, high))) for _ in range(5)]
    longer = rng.random(rows) < 0.3
    pieces.append(pc.if_else(pa.array(longer), pc.binary_join_element_wise(*pieces[:3], " "), ""))
    hosts = _hosts().take(pa.array(rng.zipf(1.3, rows) % HOSTS))
    numbers = pa.array(rng.integers(0, 1 << 40, rows)).cast(pa.string())
    offsets = np.arange(rows, dtype=np.int64) * 400
    file = f"{SOURCES[part % 3]}-{part:05d}.jsonl"
    origin = [_same(file, rows), offsets, np.full(rows, 400), np.zeros(rows, np.int64), np.full(rows, 400)]
    columns = {
        "id": _ids(rng, rows),
        "source": _same(SOURCES[part % 3], rows),
        "url": pc.binary_join_element_wise("https://", hosts, "/p/", numbers, ".html", ""),
        "date": pa.array(rng.integers(1_600_000_000, 1_750_000_000, rows)).cast(pa.timestamp("s", tz="UTC")),
        "origin": pa.StructArray.from_arrays([pa.array(one) for one in origin], fields=list(ORIGIN)),
        "title": pieces[0],
        "text": pc.binary_join_element_wise(*pieces, " "),
        "language": pa.array(list(LANGUAGES)).take(pa.array(languages)),
        "language_score": pa.array((1 - rng.beta(1.2, 12, rows) * 0.3).astype(np.float32)),
        "toxic_words": pa.array((rng.poisson(0.05, rows)).astype(np.int32)),
        "toxic_share": pa.array((rng.exponential(0.002, rows) * (rng.random(rows) < 0.05)).astype(np.float32)),
        "extraction_score": pa.array(rng.beta(6, 2, rows).astype(np.float32)),
    }
    return pa.table(columns)


def _ids(rng: Rng, rows: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(rng.bytes(16 * rows))])


def _same(value: str, rows: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(rows, np.int64)))


def measured(rng: Rng, ids: pa.Array, left: int, table: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """Measures of the documents that reached the rules: those that pass them first, then those that one drops."""
    passed = left + counts["toxic"]
    rows = passed + counts["gopher"]
    values = {
        "min_words": np.round(rng.lognormal(5.5, 1.0, rows)),
        "max_words": np.zeros(rows),
        "min_word_length": rng.normal(5.1, 0.8, rows),
        "max_word_length": np.zeros(rows),
        "max_symbols": rng.exponential(0.01, rows),
        "max_bullet_lines": rng.beta(0.5, 6, rows),
        "max_ellipsis_lines": rng.beta(0.5, 12, rows),
        "min_alphabetic": 1 - rng.beta(2, 20, rows),
        "min_stop_words": np.round(rng.gamma(3, 2, rows)),
    }
    fate = rng.choice(len(REASONS), counts["gopher"], p=[0.35, 0.05, 0.05, 0.05, 0.3, 0.2])
    broken = np.zeros(rows, np.uint32)
    for place, (name, limit) in enumerate(LIMITS.items()):
        if name in ("max_words", "max_word_length"):
            values[name] = values[name.replace("max", "min")]
        lower = name.startswith("min_")
        wrong = values[name] < limit if lower else values[name] > limit
        near = limit * (1 + 0.2 * rng.random(rows) if lower else 1 - 0.2 * rng.random(rows))
        values[name] = np.where(wrong, near, values[name])
        if name in REASONS:
            mine = passed + np.flatnonzero(fate == list(REASONS).index(name))
            beyond = np.abs(rng.beta(4, 1.5, len(mine)))
            values[name][mine] = limit * (beyond if lower else np.minimum(1 / beyond, 1.1))
            broken[mine] |= np.uint32(1 << place)
    ids = pa.concat_arrays([ids, table.column("id").combine_chunks().slice(left, rows - left)])
    columns = {f"gopher_quality.{name}": pa.array(of.astype(np.float32)) for name, of in values.items()}
    return pa.table({"id": ids} | columns | {"gopher_quality.broken": pa.array(broken)})


def _dropped(
    rng: Rng, table: pa.Table, judged: pa.Table, counts: Mapping[str, int], total: int, left: int
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The rows that the clean phase dropped: by toxicity, Gopher's rules, language, reader; and its funnel."""
    tables, start, steps = [], 0, []
    lost = judged.slice(left + counts["toxic"])
    rule = np.log2(lost.column("gopher_quality.broken").to_numpy()).astype(np.int64)
    gopher = pa.array([f"gopher_quality.{REASONS.get(name, '')}" for name in LIMITS]).take(pa.array(rule))
    limits = np.array(list(LIMITS.values()))[rule]
    values = np.column_stack([lost.column(f"gopher_quality.{name}").to_numpy() for name in LIMITS])
    low = rng.random(counts["low_score"]) * 0.65
    for stage, name, reasons, value, limit in (
        ("toxicity", "toxic", "toxicity.toxic_words", rng.beta(2, 20, counts["toxic"]) + 0.01, 0.01),
        ("gopher_quality", "gopher", gopher, values[np.arange(len(rule)), rule], limits),
        ("language", "low_score", "language.low_score", low, 0.65),
        ("read", "request", "read.request", np.full(counts["request"], np.nan), np.nan),
    ):
        here = table.slice(start, counts[name])
        reasons = _same(reasons, here.num_rows) if isinstance(reasons, str) else reasons
        tables.append(_dropped_table(here, [stage], reasons, pa.array(value, from_pandas=True), limit))
        start += counts[name]
        tally = {one["values"]: one["counts"] for one in pc.value_counts(reasons).to_pylist()}
        steps.append({"stage": stage, "dropped": tally})
    entered = total
    funnel = []
    for step in [steps[3], {"stage": "extract", "dropped": {}}, *steps[2::-1]]:
        step |= {"entered": entered, "counts": {}, "characters": entered * 210, "groups": {}}
        entered -= sum(step["dropped"].values())
        funnel.append(step)
    return pa.concat_tables(tables), funnel


def _dropped_table(table: pa.Table, stage: list[str], reasons: Any, value: Any, limit: Any) -> pa.Table:
    rows = table.num_rows
    bound = limit if isinstance(limit, np.ndarray) else np.full(rows, limit)
    columns = [*table.select(["id", "source", "url", "origin"]).columns, _same(stage[0], rows), reasons, value]
    columns += [pa.array(bound, from_pandas=True), pa.nulls(rows, pa.binary(16))]
    return pa.table(columns, schema=DROPPED)


def _duplicates(
    rng: Rng, losers: pa.Table, left: pa.Table, lost_to: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> pa.Table:
    survivors = left.take(pa.array(lost_to))
    columns = {
        "loser": losers.column("id"), "survivor": survivors.column("id"),
        "reason": _same("near_duplicate", losers.num_rows),
        "similarity": pa.array(0.75 + 0.25 * rng.random(losers.num_rows)), "cluster_size": pa.array(sizes[lost_to]),
        "loser_source": losers.column("source"), "survivor_source": survivors.column("source"),
        "loser_url": losers.column("url"), "survivor_url": survivors.column("url"),
    }  # fmt: skip
    return pa.table(columns).select(DUPLICATES.names).cast(DUPLICATES)


def _sums(table: pa.Table, name: str) -> dict[str, list[int]]:
    found = table.group_by(name).aggregate([([], "count_all"), ("characters", "sum")]).sort_by(name)
    return {row[name]: [row["count_all"], row["characters_sum"]] for row in found.to_pylist()}


def _save(unit: Unit, name: str, table: pa.Table) -> None:
    path = unit.folder / f"{unit.number:05d}-{name}"
    pq.write_table(table, path, row_group_size=ROWS, compression="zstd", write_page_index=True)


def main() -> None:
    """Writes a folder and says how long that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begun = time.monotonic()
    make(asked.folder, asked.documents, asked.seed)
    size = sum(path.stat().st_size for path in asked.folder.rglob("*") if path.is_file())
    print(f"{asked.documents:,} documents in {time.monotonic() - begun:.1f} s, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
