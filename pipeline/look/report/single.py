"""The page on one run: which figures its charts show, and the words above them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.look.report import charts, marks, vocabulary
from pipeline.look.report.charts import compact
from pipeline.look.report.facts import Asked, Facts, gather
from pipeline.look.report.page import figure, render
from pipeline.recipe import READ_LABEL
from pipeline.show import size_text

SECTIONS = (
    ("funnel", "Funnel"), ("reasons", "Drop reasons"), ("rules", "Rules"), ("content", "Content"),
    ("duplicates", "Duplicates"), ("safety", "Toxicity, personal data"), ("mixture", "Mixture, shards"),
    ("tokenizer", "Tokenizer"), ("cost", "Time and cost"), ("inputs", "Inputs"), ("recipe", "Recipe"),
)  # fmt: skip
MOST_REASONS = 25
MOST_LANGUAGES = 20
MOST_GROUPS = 200
PERSONAL = ("pii", "secrets")
"""Names of stages that replace what is personal, and count it."""


def report(folder: Path, asked: Asked) -> str:
    """The page. Raises UserError where there is no run, or the packages that make a page are not installed."""
    facts = gather(folder, asked)
    drawn = figures(facts)
    values = {
        "f": facts, "sections": SECTIONS, "made_by": facts.made_by, "lead": lead(facts), "cards": cards(facts),
        "slug": slug, "reasons": reasons(facts),
        "textless": textless(facts), "rules": shown_rules(facts), "clusters": shown_clusters(facts),
        "scores": [one | {"chart": f"score-{place}"} for place, one in enumerate(facts.scores)],
        "toxicity": toxicity(facts), "pii": personal(facts), "mixture": mixture(facts.overview),
        "fertility": fertility(facts.overview),
        "used": vocabulary.used(facts.tokenizer), "tokenizer_tables": vocabulary.tables(facts.tokenizer),
        "cost": cost(facts),
    }  # fmt: skip
    return render("run.html", values, drawn)


def slug(*names: str) -> str:
    """A name for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(names).lower()).strip("-")


def lead(facts: Facts) -> str:
    """The run in a sentence or two."""
    o = facts.overview
    records = o["records"]
    if not records["framed"]:
        return "No records were read yet."
    share = records["kept"] / records["framed"]
    text = f"Of {records['framed']:,} records read, {records['kept']:,} ({share:.1%}) are kept"
    if not records["balanced"]:  # the others are on their way
        text = f"Of {records['framed']:,} records read so far, {records['dropped']:,} are dropped"
    most = sorted(o["funnel"], key=lambda step: -sum(step["dropped"].values()))[:2]
    named = [f"{step['stage']} ({sum(step['dropped'].values()):,})" for step in most if step["dropped"]]
    return text + (f"; most are dropped by {' and '.join(named)}." if named else ".")


def cards(facts: Facts) -> list[dict[str, str]]:
    """The figures at the top."""
    o = facts.overview
    records = o["records"]
    characters = sum(one["characters"] for one in o["sources"].values())
    tokens = sum(one["tokens"] for one in o["tokens"]["sources"].values())
    seconds = sum(o["cpu_seconds"].values())
    size, share = size_text(sum(i["bytes"] for i in o["inputs"])), _share(records["kept"], records["framed"])
    found = [
        {"label": "records read", "value": compact(records["framed"]), "note": size},
        {"label": "documents kept", "value": compact(records["kept"]), "note": share},
        {"label": "characters", "value": compact(characters), "note": f"{len(o['languages']):,} languages"},
    ]  # fmt: skip
    if tokens:
        ratio = sum(one["characters"] for one in o["tokens"]["sources"].values()) / tokens
        found.append({"label": "tokens", "value": compact(tokens), "note": f"{ratio:.2f} characters a token"})
    if o["splits"]:
        train = sum(one["tokens"] for one in o["splits"].values())
        shards = sum(one["shards"] for one in o["splits"].values())
        found.append({"label": "tokens in shards", "value": compact(train), "note": f"{shards:,} shards"})
    if facts.hosts:
        found.append({"label": "hosts", "value": compact(facts.hosts["hosts"]), "note": ""})
    hours = seconds / 3600
    value = f"{hours:,.1f} h" if hours >= 1 else f"{seconds:,.0f} s"
    each = f"{1000 * seconds / records['framed']:.1f} ms a record" if records["framed"] else ""
    return [*found, {"label": "CPU time", "value": value, "note": each}]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%} of all" if whole else ""


def reasons(facts: Facts) -> list[dict[str, Any]]:
    """Every reason with its count and some of its records, most first."""
    found = []
    for step in facts.overview["funnel"]:
        for reason, count in step["dropped"].items():
            rows = facts.dropped.get((step["stage"], reason), [])
            found.append(
                {"stage": step["stage"], "reason": reason, "count": count, "examples": rows}
                | {"figures": [against(row) for row in rows]}
            )
    return sorted(found, key=lambda one: (-one["count"], one["reason"]))


def textless(facts: Facts) -> int:
    """Examples whose text could not be had; what a reader rejects has none."""
    rows = (row for (stage, _), some in facts.dropped.items() if stage != READ_LABEL for row in some)
    return sum(row["text"] is None for row in rows)


def against(row: Mapping[str, Any]) -> str:
    """What a dropped record had against it: its figure and the limit, or the document that it lost to."""
    text = figure(row["value"]) if row["value"] is not None else ""
    text += f", limit {figure(row['limit'])}" if text and row["limit"] is not None else ""
    return text + (f"lost to {row['survivor'].hex()}" if row["survivor"] is not None and not text else "")


def shown_rules(facts: Facts) -> list[dict[str, Any]]:
    """The rules with their documents."""
    return [
        {"facts": rule, "chart": f"rule-{place}"}
        | {
            side: [
                (facts.near.get(one.id, {"id": one.id}) | {"id": one.id}, figure(one.value))
                for one in getattr(rule, side)
            ]
            for side in ("kept", "lost")
        }
        for place, rule in enumerate(facts.rules)
    ]


def shown_clusters(facts: Facts) -> list[dict[str, Any]]:
    """The largest clusters: the survivor beside each loser, with the differences of their texts."""
    found = []
    for one in (facts.clusters or {}).get("largest", []):
        pairs = []
        for member in one["members"]:
            sides: Any = (None, None)
            if one["text"] is not None and member["text"] is not None:
                sides = marks.difference(one["text"], member["text"])
            equal = one["text"] is not None and one["text"] == member["text"]
            pairs.append(member | {"left": sides[0], "right": sides[1], "equal": equal})
        found.append(one | {"pairs": pairs})
    return found


def toxicity(facts: Facts) -> str:
    """What the stages on toxicity dropped."""
    lines = []
    for step in facts.overview["funnel"]:
        if step["stage"].startswith("toxicity"):
            lost = sum(step["dropped"].values())
            more = [f"{name.replace('_', ' ')} {count:,}" for name, count in step["counts"].items()]
            also = f" ({', '.join(more)})" if more else ""
            lines.append(f"{step['stage']} dropped {lost:,} of {step['entered']:,} documents{also}.")
    return " ".join(lines)


def personal(facts: Facts) -> list[tuple[str, str, int]]:
    """What stages on personal data and secrets counted."""
    return [
        (step["stage"], name, count)
        for step in facts.overview["funnel"]
        if step["stage"].startswith(PERSONAL)
        for name, count in step["counts"].items()
    ]


def mixture(overview: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mixture's groups, largest first, and a line on how near it came.

    In the layout `by_source` nothing is reached yet: what the shards hold stands in its place, as `held`.
    """
    groups = overview["mixture"]
    if not groups:
        return None
    held = overview["layout"] == "by_source"
    asked = sum(one["tokens_asked"] for one in groups.values()) or 1
    reached = sum(one["tokens_reached"] for one in groups.values()) or 1
    rows = [
        {
            "name": name, "tokens": one["tokens"], "asked": one["tokens_asked"], "reached": one["tokens_reached"],
            "share_asked": one["tokens_asked"] / asked, "share_reached": one["tokens_reached"] / reached,
            "epochs": one["tokens_asked" if held else "tokens_reached"] / max(1, one["tokens"]),
        }
        for name, one in groups.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: (-row["asked"], row["name"]))
    if held:
        text = f"{reached:,} tokens in {len(rows):,} groups, each document once; the loader weighs them as was asked."
    else:
        off = max(abs(row["share_reached"] - row["share_asked"]) for row in rows)
        text = f"{reached:,} tokens of the training split in {len(rows):,} groups; no share is further from what was "
        text += f"asked than {100 * off:.2f} points."
    return {"rows": rows[:MOST_GROUPS], "text": text, "held": held, "more": max(0, len(rows) - MOST_GROUPS)}


def fertility(overview: Mapping[str, Any]) -> float | None:
    """Characters a token over all documents."""
    sources = overview["tokens"]["sources"].values()
    tokens = sum(one["tokens"] for one in sources)
    return sum(one["characters"] for one in sources) / tokens if tokens else None


def cost(facts: Facts) -> dict[str, Any]:
    """CPU time in all, a record, and in money where a price is given."""
    seconds = sum(row["seconds"] for row in facts.cost)
    tokens = sum(one["tokens"] for one in facts.overview["tokens"]["sources"].values())
    framed = facts.overview["records"]["framed"]
    text = f"{seconds:,.1f} CPU seconds"
    text += f" ({seconds / 3600:,.1f} hours of one core)" if seconds >= 3600 else ""
    text += f", {1000 * seconds / framed:.2f} ms a record" if framed else ""
    text += f"; {tokens / seconds:,.0f} tokens a CPU second." if tokens and seconds else "."
    price = facts.asked.price
    if price is not None:
        money = seconds / 3600 * price
        text += f" At {price:g} an hour of a core it cost {figure(money)}"
        text += f", {money / tokens * 1e9:,.2f} for a billion tokens." if tokens else "."
    return {"text": text, "seconds": seconds, "price": price}


def figures(facts: Facts) -> dict[str, Any]:
    """All charts by name; None for one that has nothing to show."""
    o = facts.overview
    found: dict[str, Any] = {"funnel": charts.funnel(o["funnel"])}
    most = reasons(facts)[:MOST_REASONS]
    total = o["records"]["dropped"]
    if most:
        hover = [f"{one['reason']}: {one['count']:,} ({one['count'] / total:.1%})" for one in most]
        found["reasons"] = charts.rows([one["reason"] for one in most], [one["count"] for one in most], hover, "$lost")
    found |= {f"rule-{place}": charts.rule(rule) for place, rule in enumerate(facts.rules)}
    for name in ("languages", "sources"):
        some = list(o[name].items())[:MOST_LANGUAGES]
        whole = sum(one["characters"] for one in o[name].values()) or 1
        hover = [
            f"{key}: {one['characters'] / whole:.2%} of characters, {one['documents']:,} documents" for key, one in some
        ]
        if some:
            shares = [100 * one["characters"] / whole for _, one in some]
            found[name] = charts.shares([key for key, _ in some], shares, hover)
    if len(facts.years) > 1 or (facts.years and "unknown" not in facts.years):
        found["years"] = charts.columns(list(facts.years), list(facts.years.values()))
    for name, one in facts.lengths.items():
        if one["histogram"]:
            found[f"length-{name}"] = charts.bars(one["histogram"], title=f"{name} (log scale)")
    if facts.hosts:
        for name in ("documents", "characters"):
            rows = facts.hosts[f"by_{name}"]
            hover = [f"{one['host']}: {one['documents']:,} documents, {one['characters']:,} characters" for one in rows]
            found[f"hosts-{name}"] = charts.rows([one["host"] for one in rows], [one[name] for one in rows], hover)
    found |= {f"score-{place}": charts.bars(one["histogram"], height=150) for place, one in enumerate(facts.scores)}
    if facts.clusters and facts.clusters["removed"]:
        sizes = facts.clusters["sizes"]
        names = [str(one["from"]) if one["from"] == one["to"] else f"{one['from']:,}–{one['to']:,}" for one in sizes]
        hover = [
            f"{one['removed']:,} lost in {one['clusters']:,} clusters of {name}"
            for one, name in zip(sizes, names, strict=True)
        ]
        found["clusters"] = charts.rows(
            [f"{name} documents" for name in names], [one["removed"] for one in sizes], hover, "$lost"
        )
    mixed = mixture(o)
    if mixed:
        rows = mixed["rows"][:40]
        series = {"share asked": [100 * row["share_asked"] for row in rows]}
        series["share held" if mixed["held"] else "share reached"] = [100 * row["share_reached"] for row in rows]
        found["mixture"] = charts.grouped([row["name"] for row in rows], series, ["$accent", "$kept"], " %")
    ratios = {
        name: one["characters"] / one["tokens"] for name, one in o["tokens"]["languages"].items() if one["tokens"]
    }
    if ratios:
        some_ratios = list(ratios.items())[:MOST_LANGUAGES]
        hover = [f"{name}: {value:.2f} characters a token" for name, value in some_ratios]
        found["fertility"] = charts.rows([name for name, _ in some_ratios], [value for _, value in some_ratios], hover)
    steps = sorted((row for row in facts.cost if row["seconds"] > 0), key=lambda row: -row["seconds"])[:MOST_REASONS]
    if steps:
        hover = [f"{row['name']}: {row['seconds']:,.1f} CPU seconds" for row in steps]
        found["cost"] = charts.rows([row["name"] for row in steps], [row["seconds"] for row in steps], hover, "$accent")
    return found
