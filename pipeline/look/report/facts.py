"""What a report says of one run: figures from the ledger and the tables, and the documents that it shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.errors import UserError
from pipeline.look import clusters, content, overview
from pipeline.look.histogram import histogram
from pipeline.look.report import again, chosen, marks
from pipeline.look.report.rules import RuleFacts, rules
from pipeline.look.rules import Rules
from pipeline.look.runfolder import SCORES_NOT, RunFolder
from pipeline.look.texts import beginnings
from pipeline.recipe import READ_LABEL
from pipeline.versions import VERSIONS
from stages.toxicity import Toxicity

EXAMPLES = 5
"""Documents that are shown of each kind."""
CHARACTERS = 420
"""Of the text of an example."""
LONG = 20_000
"""Characters of a text that are read, where words in it are looked for."""
CLUSTER_CHARACTERS = 4_000
HOSTS = 25
COLUMNS = 24
"""Columns of scores that are shown at most."""
DOCUMENT = ("id", "source", "url", "language", "characters")


@dataclass(frozen=True)
class Asked:
    """What a report is asked for."""

    price: float | None = None
    """Of an hour of one core, in whatever currency."""
    examples: int = EXAMPLES


@dataclass
class Facts:
    """All that the page says of one run. A part that the run has not got is empty or None, `missing` says why."""

    name: str
    asked: Asked
    overview: dict[str, Any]
    recipe: str = ""
    made_by: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    dropped: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """Examples by stage and reason, with their `text` where it could be had."""
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Documents of each source with their `text`."""
    rules: list[RuleFacts] = field(default_factory=list)
    near: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """Texts, URLs and languages of documents near limits."""
    lengths: dict[str, dict[str, Any]] = field(default_factory=dict)
    hosts: dict[str, Any] | None = None
    years: dict[str, int] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    clusters: dict[str, Any] | None = None
    toxic: list[dict[str, Any]] = field(default_factory=list)
    tokenizer: dict[str, Any] | None = None
    """What `tokenizer/report.json` says."""
    cost: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a part is not there, by its name."""


def gather(folder: Path, asked: Asked) -> Facts:
    """Everything about a run. Raises UserError where there is none."""
    run = RunFolder(folder)
    facts = gather_figures(run, asked)
    _clusters(run, facts)
    _examples(run, facts)
    return facts


def gather_figures(run: RunFolder, asked: Asked) -> Facts:
    """What a report says of a run without showing documents."""
    head = run.ledger.head()
    facts = Facts(head["name"], asked, overview.of_run(run), made_by=head.get("created_by", ""))
    recipe = run.folder / "recipe.yaml"
    if recipe.exists():
        facts.recipe = recipe.read_text("utf-8")
    else:
        facts.recipe = yaml.safe_dump(run.context.recipe.model_dump(mode="json"))
    for row in run.of("clean"):
        for made in (row.body["made_with"], *row.body["made_with"].get("stages", [])):
            facts.packages |= made.get("packages", {})
    facts.cost = cost(run, facts.overview)
    _populations(run, facts)
    _tokenizer(run, facts)
    try:
        facts.rules = rules(Rules(run), asked.examples)
    except UserError as error:
        facts.missing["rules"] = str(error)
    return facts


def _populations(run: RunFolder, facts: Facts) -> None:
    if run.removed("documents") or not run.parts("documents"):
        why = (
            "`corpusmill clean` took the documents away" if run.removed("documents") else "the run has no documents yet"
        )
        facts.missing |= dict.fromkeys(("hosts", "lengths", "scores", "kept"), why)
        return
    facts.lengths = content.lengths(run)
    facts.hosts = content.hosts(run, HOSTS)
    facts.years = content.years(run)
    schema = pq.read_schema(run.parts("documents")[0])
    for name in [one.name for one in schema if one.name not in SCORES_NOT and _is_number(one.type)][:COLUMNS]:
        pieces = [_numbers(batch.column(0)) for batch in run.batches("documents", [name])]
        values = np.concatenate(pieces)
        bars = histogram(values)
        if bars is not None and name != "cluster_size":
            facts.scores.append(
                {"column": name, "documents": int(np.isfinite(values).sum()), "histogram": asdict(bars)}
                | {"mean": float(np.nanmean(values)), "median": float(np.nanquantile(values, 0.5, method="lower"))}
            )
    facts.missing |= {} if facts.hosts else {"hosts": "no document has a URL with a host"}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _numbers(column: pa.Array) -> Any:
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # the last digits do not matter here


def _clusters(run: RunFolder, facts: Facts) -> None:
    try:
        facts.clusters = clusters.report(run, facts.asked.examples, CLUSTER_CHARACTERS)
    except UserError as error:
        asked = run.context.recipe.dedup is not None
        facts.missing["clusters"] = str(error) if asked else "the recipe asks for no deduplication"


def _tokenizer(run: RunFolder, facts: Facts) -> None:
    facts.tokenizer = overview.tokenizer_report(run.folder)
    if facts.overview["tokenizer"] is None:
        asked = run.context.recipe.tokenizer is not None
        why = "the run has not come to it yet" if asked else "the recipe asks for no tokenizer"
        facts.missing |= dict.fromkeys(("tokenizer", "mixture"), why)
    elif facts.overview["mixture"] is None:
        facts.missing["mixture"] = "the run has not come to it yet"


def _examples(run: RunFolder, facts: Facts) -> None:
    """Documents of every kind; all their texts are looked up at once."""
    most = facts.asked.examples
    facts.dropped = chosen.dropped(run, most)
    if run.removed("dropped"):
        facts.missing["dropped"] = "`corpusmill clean` took the dropped records away"
    wanted = {near.id for rule in facts.rules for near in (*rule.kept, *rule.lost)}
    toxic: list[dict[str, Any]] = []
    if not facts.missing.get("kept"):
        facts.kept = {key[0]: rows for key, rows in chosen.kept(run, most, DOCUMENT).items()}
        names = pq.read_schema(run.parts("documents")[0]).names
        toxic = chosen.largest(run, "toxic_words", most) if "toxic_words" in names else []
    lost = [row for rows in facts.dropped.values() for row in rows]
    of_rules = {near.id: rule for rule in facts.rules for near in rule.lost}
    rows_of_rules = chosen.dropped_by_id(run, of_rules) if of_rules and not run.removed("dropped") else []
    wanted |= {row["id"] for rows in facts.kept.values() for row in rows} | {row["id"] for row in toxic}
    stages = {READ_LABEL, *(label for label, _ in run.context.chain)}
    wanted |= {row["id"] for row in lost if row["stage"] not in stages}
    texts = beginnings(run, wanted - of_rules.keys(), LONG).texts
    lost += [row for row in rows_of_rules if row["id"] not in {one["id"] for one in lost}]
    cut = again.texts(run, (row for row in lost if row["id"] not in texts), LONG)
    texts = {**cut, **texts}
    about = chosen.about(run, texts.keys())
    for row in lost:
        row["text"] = texts.get(row["id"])
        about.setdefault(row["id"], row)
    for rows in facts.kept.values():
        for row in rows:
            row["text"] = texts.get(row["id"])
    facts.near = {one: {**about.get(one, {}), "text": text} for one, text in texts.items()}
    for row in rows_of_rules:
        facts.near.setdefault(row["id"], row)
    for rule in facts.rules:
        rule.kept = [near for near in rule.kept if near.id in facts.near][:most]
    _toxic(run, facts, toxic, texts, about)


def _toxic(
    run: RunFolder, facts: Facts, found: list[dict[str, Any]], texts: dict[bytes, str], about: dict[bytes, Any]
) -> None:
    """Texts with the words that the stage counted, of documents that were kept and of some that were dropped."""
    stages = [(label, stage) for label, stage in run.context.chain if isinstance(stage, Toxicity)]
    if not stages:
        return
    label, stage = stages[-1]
    try:
        spans = marks.Spans(run.context, stage)
    except UserError:  # its lists are gone
        return
    rows = [row | {"fate": "kept"} for row in found]
    rows += [row | {"fate": "dropped"} for key, some in facts.dropped.items() if key[0] == label for row in some]
    for row in rows:
        text, known = texts.get(row["id"]), about.get(row["id"], {})
        marked = spans.mark(text, known.get("language")) if text else []
        if marked:
            facts.toxic.append({**known, **row, "spans": marked})


def cost(run: RunFolder, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """CPU seconds of each stage, of the rest of phase clean, and of each other phase, in the order of a run."""
    rows = []
    inner = 0.0
    phases = dict(facts["cpu_seconds"])
    for step in facts["funnel"]:
        if step["stage"] in {label for label, _ in run.context.chain}:
            inner += step["seconds"]
            rows.append({"name": step["stage"], "stage": True, "seconds": step["seconds"]})
    whole = phases.pop("clean", 0.0)
    rows.insert(0, {"name": "read and write", "stage": True, "seconds": round(max(whole - inner, 0.0), 3)})
    order = list(VERSIONS)
    rows += [{"name": name, "stage": False, "seconds": phases[name]} for name in order if phases.get(name) is not None]
    return rows
