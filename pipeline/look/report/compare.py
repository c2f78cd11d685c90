"""Two runs beside each other: what their recipes, figures and rules differ in, and what only one of them keeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.look.report import charts, chosen
from pipeline.look.report.facts import CHARACTERS, Asked, Facts, gather_figures
from pipeline.look.report.page import render
from pipeline.look.report.single import against, cards, mixture
from pipeline.look.runfolder import RunFolder
from pipeline.look.texts import beginnings

SECTIONS = (
    ("recipes", "Recipes"), ("funnel", "Funnel"), ("reasons", "Drop reasons"), ("only", "Kept by one alone"),
    ("rules", "Rules"), ("content", "Content"), ("mixture", "Mixture"), ("cost", "Time and cost"),
)  # fmt: skip
MOST = 20
NOT_READ = "not among its records"
NOT_YET = "not judged yet, or not among its records"
COLOURS = ("$kept", "$accent")


@dataclass
class Alone:
    """Documents that one run keeps and the other does not, by the other's reason."""

    count: int
    reasons: list[dict[str, Any]] = field(default_factory=list)
    """`stage`, `reason`, `count`, `examples`; most first."""


def report(first: Path, second: Path, asked: Asked) -> str:
    """The page. Raises UserError where there is no run, or the packages that make a page are not installed."""
    runs = [RunFolder(folder) for folder in (first, second)]
    facts = [gather_figures(run, asked) for run in runs]
    names = [
        f"{side} · {one.name}" + (f" in {folder.resolve().name}" if facts[0].name == facts[1].name else "")
        for side, one, folder in zip("AB", facts, (first, second), strict=True)
    ]
    rules, drawn = _rules(*facts)
    values = {
        "runs": facts, "names": names, "sections": SECTIONS, "made_by": facts[1].made_by, "cards": _cards(*facts),
        "recipes": _recipes(*runs),
        "funnel": _funnel(*facts), "reasons": _reasons(*facts),
        "rules": rules, "mixtures": [mixture(one.overview) for one in facts], "cost": _cost(*facts),
        "shares": {what: _shares(what, *facts) for what in ("languages", "sources")},
        **_alone(runs, asked.examples),
    }  # fmt: skip
    return render("compare.html", values, drawn | _figures(values, facts, names))


def _recipes(*runs: RunFolder) -> list[tuple[str, str, str]]:
    """What two recipes differ in: key, value in the first, value in the second. Stages and inputs go by name."""
    recipes: list[dict[str, Any]] = [run.context.recipe.model_dump(mode="json") for run in runs]
    chains = [dict(run.context.chain) for run in runs]
    common = chains[0].keys() & chains[1].keys()
    for recipe, run, chain in zip(recipes, runs, chains, strict=True):
        sources = run.context.recipe.sources_of()
        written = [settings for one in recipe["stages"] for settings in one.values()]
        # A default in one recipe may be written down in the other; of a stage that one run alone has, little is shown.
        recipe["stages"] = {
            label: {"sources": sources.get(label)} | asdict(stage) if label in common else settings or {}
            for (label, stage), settings in zip(chain.items(), written, strict=True)
        }
        seen: Counter[str] = Counter()
        inputs = {}
        for one in recipe["inputs"]:
            seen[one["source"]] += 1
            inputs[one["source"] if seen[one["source"]] == 1 else f"{one['source']}-{seen[one['source']]}"] = one
        recipe["inputs"] = inputs
    found = _differences(recipes[0], recipes[1])
    orders = [[label for label in chain if label in common] for chain in chains]
    if orders[0] != orders[1]:
        found.append(("order of stages", ", ".join(chains[0]), ", ".join(chains[1])))
    return found


def _differences(one: Mapping[Any, Any], other: Mapping[Any, Any], way: str = "") -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for key in [*one, *(key for key in other if key not in one)]:
        a, b = one.get(key), other.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{way}{key}.")
        else:
            found.append((f"{way}{key}", _said(a), _said(b)))
    return found


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):  # a section that one recipe alone has: of its settings those that say something
        value = {key: one for key, one in value.items() if one not in (None, {}, [])}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:299] + "…"


def _cards(one: Facts, other: Facts) -> list[dict[str, str]]:
    """The figures at the top, of both runs."""
    sides = [{card["label"]: card for card in cards(facts)} for facts in (one, other)]
    labels = [*sides[0], *(label for label in sides[1] if label not in sides[0])]
    return [
        {"label": label}
        | {name: side[label]["value"] if label in side else "–" for name, side in zip("ab", sides, strict=True)}
        for label in labels
    ]


def _funnel(one: Facts, other: Facts) -> list[dict[str, Any]]:
    sides = [{step["stage"]: step for step in facts.overview["funnel"]} for facts in (one, other)]
    done = [facts.overview["complete"] for facts in (one, other)]
    found = []
    for stage in _in_order(list(sides[0]), list(sides[1])):
        steps = [side.get(stage) for side in sides]
        rates = [
            sum(step["dropped"].values()) / step["entered"] if step and step["entered"] else None for step in steps
        ]
        differ = None if None in rates else rates[1] - rates[0]  # type: ignore[operator]
        alone = any(step is None and whole for step, whole in zip(steps, done, strict=True))
        found.append({"stage": stage, "steps": steps, "rates": rates, "differ": differ, "alone": alone})
    return found


def _in_order(one: list[str], other: list[str]) -> list[str]:
    """Both lists as one, each in its order as far as that goes."""
    merged = list(one)
    for place, name in enumerate(other):
        if name not in merged:
            before = [merged.index(known) for known in other[:place] if known in merged]
            merged.insert(max(before, default=-1) + 1, name)
    return merged


def _reasons(one: Facts, other: Facts) -> list[dict[str, Any]]:
    sides = [facts.overview["reasons"] for facts in (one, other)]
    names = sorted({*sides[0], *sides[1]}, key=lambda name: (-max(side.get(name, 0) for side in sides), name))
    return [{"reason": name, "a": sides[0].get(name, 0), "b": sides[1].get(name, 0)} for name in names]


def _rules(one: Facts, other: Facts) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rules of both runs with the names of their charts, and the charts."""
    sides = [{(rule.stage, rule.setting): rule for rule in facts.rules} for facts in (one, other)]
    keys = [*sides[0], *(key for key in sides[1] if key not in sides[0])]
    found, drawn = [], {}
    for place, key in enumerate(keys):
        pair = [side.get(key) for side in sides]
        row: dict[str, Any] = {"stage": key[0], "setting": key[1], "pair": pair, "charts": []}
        for name, rule, beside in zip("ab", pair, reversed(pair), strict=True):
            row["charts"].append(f"rule-{name}-{place}")
            if rule is not None:
                drawn[f"rule-{name}-{place}"] = charts.rule(rule, beside)
        row["alone"] = None in pair
        row["differs"] = len({None if rule is None else (rule.limit, rule.broken) for rule in pair}) > 1
        found.append(row)
    return sorted(found, key=lambda row: not row["differs"]), drawn


def _shares(what: str, one: Facts, other: Facts) -> list[dict[str, Any]]:
    sides = [facts.overview[what] for facts in (one, other)]
    totals = [sum(row["characters"] for row in side.values()) or 1 for side in sides]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    rows = [
        {"name": name, "documents": [side.get(name, {}).get("documents", 0) for side in sides]}
        | {
            "shares": [
                side.get(name, {}).get("characters", 0) / total for side, total in zip(sides, totals, strict=True)
            ]
        }
        for name in names
    ]
    return sorted(rows, key=lambda row: (-max(row["shares"]), row["name"]))


def _cost(one: Facts, other: Facts) -> list[dict[str, Any]]:
    sides = [{row["name"]: row["seconds"] for row in facts.cost} for facts in (one, other)]
    names = _in_order(list(sides[0]), list(sides[1]))
    return [{"name": name, "seconds": [side.get(name, 0.0) for side in sides]} for name in names]


def _figures(values: Mapping[str, Any], sides: list[Facts], names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    reasons = values["reasons"][:MOST]
    if reasons:
        series = {names[0]: [row["a"] for row in reasons], names[1]: [row["b"] for row in reasons]}
        found["reasons"] = charts.grouped([row["reason"] for row in reasons], series, COLOURS)
    for what, rows in values["shares"].items():
        some = rows[:MOST]
        series = {name: [100 * row["shares"][side] for row in some] for side, name in enumerate(names)}
        found[what] = charts.grouped([row["name"] for row in some], series, COLOURS, " %") if some else None
    for name in ("characters", "tokens"):
        spreads = [facts.lengths.get(name, {}).get("histogram") for facts in sides]
        for side, spread, colour in zip("ab", spreads, COLOURS, strict=True):
            if spread:
                found[f"length-{side}-{name}"] = charts.bars(
                    spread, title=f"{name} (log scale)", colour=colour, axis_of=charts.span(*spreads)
                )
    steps = sorted(values["cost"], key=lambda row: (-max(row["seconds"]), row["name"]))[:MOST]
    if steps:
        series = {name: [row["seconds"][side] for row in steps] for side, name in enumerate(names)}
        found["cost"] = charts.grouped([row["name"] for row in steps], series, COLOURS, " s")
    return found


def _alone(runs: list[RunFolder], examples: int) -> dict[str, Any]:
    """What each run keeps alone; None, and why, where that is not known."""
    for side, run in zip("AB", runs, strict=True):
        for folder in ("documents", "dropped"):
            if run.removed(folder):
                return {"alone": None, "why": f"`corpusmill clean` took the {folder} out of {side}"}
        if not run.of("documents"):
            return {"alone": None, "why": f"{side} has no documents yet"}
    kept = [_ids(run) for run in runs]
    sides = []
    for run, other, mine, theirs in zip(runs, reversed(runs), kept, reversed(kept), strict=True):
        only = mine.filter(pc.invert(pc.is_in(mine, value_set=theirs)))
        sides.append(_by_reason(run, other, only, examples))
    common = len(kept[0]) - sides[0].count
    return {"alone": sides, "common": common, "why": ""}


def _ids(run: RunFolder) -> pa.ChunkedArray:
    chunks = [batch.column(0) for batch in run.batches("documents", ["id"])]
    return pa.chunked_array(chunks, pa.binary(16))


def _by_reason(run: RunFolder, other: RunFolder, only: pa.ChunkedArray, examples: int) -> Alone:
    """The documents that only `run` keeps, by why `other` does not."""
    columns = ["stage", "reason", "value", "limit", "survivor"]
    rows = [*other.batches("dropped", ["id", *columns])]
    known = None
    found: dict[tuple[str, str], dict[bytes, dict[str, Any]]] = {}
    counts: dict[tuple[str, str], int] = {}
    if rows:
        table = pa.Table.from_batches(rows)  # looked up at once, for each look-up sets up a table of all of `only`
        table = table.filter(pc.is_in(table.column("id"), value_set=only))
        known = table.group_by("id", use_threads=False).aggregate([(name, "first") for name in columns])
    if known is not None and len(known):
        known = known.rename_columns([name.removesuffix("_first") for name in known.column_names])
        for key in known.group_by(["stage", "reason"], use_threads=False).aggregate([([], "count_all")]).to_pylist():
            counts[key["stage"], key["reason"]] = key["count_all"]
            mine = known.filter(
                pc.and_(pc.equal(known["stage"], key["stage"]), pc.equal(known["reason"], key["reason"]))
            )
            some = mine.take(chosen.least(mine.column("id"), examples)).to_pylist()
            found[key["stage"], key["reason"]] = {row["id"]: row for row in some}
    unread = only if known is None else only.filter(pc.invert(pc.is_in(only, value_set=known.column("id"))))
    if len(unread):
        why = "", NOT_YET if other.ledger.complete() is None else NOT_READ
        counts[why] = len(unread)
        found[why] = {one.as_py(): {"id": one.as_py()} for one in unread.take(chosen.least(unread, examples))}
    wanted = {one for some in found.values() for one in some}
    texts = beginnings(run, wanted, CHARACTERS + 1).texts
    about = chosen.about(run, wanted)
    reasons = [
        {
            "stage": key[0], "reason": key[1], "count": counts[key],
            "examples": [
                {**row, **about.get(one, {}), "text": texts.get(one), "figure": against(row) if key[0] else ""}
                for one, row in sorted(some.items())
            ],
        }
        for key, some in found.items()
    ]  # fmt: skip
    return Alone(len(only), sorted(reasons, key=lambda one: (-one["count"], one["reason"])))
