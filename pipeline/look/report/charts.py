"""Figures for Plotly, as JSON values. Colours are named (`$kept`); the page puts in those of its light or dark form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.look.report.rules import RuleFacts

Figure = dict[str, Any]
SHORT = 26
"""Characters of a name on an axis."""
ROW = 22
"""Pixels of a bar in a chart of rows."""
_RARE = 0.03
"""Where fewer break a rule, set against the longest bar, bars have a logarithmic axis."""
_REASONS = 12
"""Reasons that are told where the pointer stands."""
_CHARACTERS = 170
"""For which the names above the diagram have room, all together."""
_HEIGHT = 0.9
"""Of the diagram, that all records take."""


def _layout(height: int, **more: Any) -> dict[str, Any]:
    return {"height": height, "margin": {"l": 8, "r": 8, "t": 8, "b": 36}, "showlegend": False} | more


def _named(name: str, most: int = SHORT) -> str:
    """A name as Plotly shows it, which takes some markup for markup."""
    return escaped(name if len(name) <= most else name[: most - 1] + "…")


def escaped(text: str) -> str:
    """A text that Plotly shows as it is: hosts, groups and reasons may hold `<a href=...>`."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def compact(value: float) -> str:
    """A number as charts have it: 1.2k, 3.4M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.3g}" if value != int(value) else f"{int(value)}"


def funnel(steps: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The stages that drop something, as a Sankey diagram: what goes on above, what is dropped below."""
    lossy = [step for step in steps if step["dropped"]]
    if not steps or not steps[0]["entered"] or not lossy:
        return None
    total = steps[0]["entered"]
    width = len(lossy)
    kept = lossy[-1]["kept"]
    entered = [step["entered"] for step in lossy] + [kept]
    lost = [sum(step["dropped"].values()) for step in lossy]
    # The stages come first: the diagram draws what leaves a node in the order of the nodes that it goes to.
    x = [min(0.999, 0.001 + 0.998 * place / width) for place in range(width + 1)]
    y = [max(0.001, count / total / 2 * _HEIGHT) for count in entered]
    x += [left + 0.6 / width for left in x[:-1]]
    y += [min(0.999, 1 - count / total / 2 * _HEIGHT) for count in lost]
    colours = ["$kept"] * width + ["$good"] + ["$lost"] * width
    texts = [_lost_text(step) for step in lossy]
    notes = [f"<b>{escaped(step['stage'])}</b>: {step['entered']:,} in, {step['kept']:,} go on" for step in lossy]
    notes += [f"<b>{kept:,}</b> kept ({kept / total:.1%} of all records)", *texts]
    source, target, value, hover = [], [], [], []
    for place, step in enumerate(lossy):
        source += [place, place]
        target += [place + 1, width + 1 + place]
        value += [step["kept"], lost[place]]
        hover += [f"{step['kept']:,} go on", texts[place]]
    shades = ["$kept-soft", "$lost-soft"] * width
    node = {
        "label": [""] * len(x), "x": x, "y": y, "color": colours, "thickness": 12, "pad": 6,
        "customdata": notes, "hovertemplate": "%{customdata}<extra></extra>", "line": {"width": 0},
    }  # fmt: skip
    link = {
        "source": source, "target": target, "value": value, "color": shades, "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
    }  # fmt: skip
    marks = [
        _note(x[place], f"<b>{_named(step['stage'], _CHARACTERS // width)}</b><br>−{compact(lost[place])}")
        for place, step in enumerate(lossy)
    ]
    marks.append(_note(1.0, f"<b>kept</b><br>{compact(kept)}", "right"))
    data = [{"type": "sankey", "arrangement": "fixed", "node": node, "link": link}]
    return {"data": data, "layout": _layout(320, annotations=marks, margin={"l": 4, "r": 4, "t": 44, "b": 8})}


def _lost_text(step: Mapping[str, Any]) -> str:
    lost = sum(step["dropped"].values())
    reasons = sorted(step["dropped"].items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{escaped(name.split('.', 1)[-1])}  {count:,}" for name, count in reasons[:_REASONS]]
    lines += [f"and {len(reasons) - _REASONS} more reasons"] if len(reasons) > _REASONS else []
    head = f"<b>{escaped(step['stage'])}</b> drops {lost:,} of {step['entered']:,} ({lost / step['entered']:.1%})"
    return "<br>".join([head, *lines])


def _note(x: float, text: str, anchor: str = "left") -> dict[str, Any]:
    return {
        "x": x, "y": 1.03, "xref": "paper", "yref": "paper", "text": text, "showarrow": False, "xanchor": anchor,
        "yanchor": "bottom", "align": anchor, "font": {"size": 11},
    }  # fmt: skip


def rows(names: Sequence[str], values: Sequence[float], hover: Sequence[str], colour: str = "$kept") -> Figure:
    """Bars to the right, the first on top."""
    data = [
        {
            "type": "bar", "orientation": "h", "x": list(values), "y": list(range(len(names))),
            "marker": {"color": colour}, "text": [compact(value) for value in values], "textposition": "outside",
            "cliponaxis": False, "customdata": list(map(escaped, hover)),
            "hovertemplate": "%{customdata}<extra></extra>",
        }
    ]  # fmt: skip
    axis = {
        "tickvals": list(range(len(names))), "ticktext": [_named(name) for name in names], "autorange": "reversed",
        "automargin": True, "fixedrange": True,
    }  # fmt: skip
    most = max(values, default=1)
    large = most >= 1000  # of small values, 500m would be half of one
    x_axis = {"fixedrange": True, "range": [0, 1.15 * most], "nticks": 5, "tickformat": "~s" if large else "~g"}
    return {"data": data, "layout": _layout(50 + ROW * len(names), yaxis=axis, xaxis=x_axis, bargap=0.25)}


def shares(names: Sequence[str], values: Sequence[float], hover: Sequence[str]) -> Figure:
    """Bars to the right, in per cent."""
    made = rows(names, values, hover)
    made["data"][0]["text"] = [f"{value:.1f} %" if value >= 0.05 else f"{value:.2f} %" for value in values]
    made["layout"]["xaxis"] |= {"ticksuffix": " %"}
    return made


def columns(names: Sequence[str], values: Sequence[float]) -> Figure:
    """Bars upwards, as over years."""
    data = [
        {"type": "bar", "x": list(names), "y": list(values), "marker": {"color": "$kept"},
         "hovertemplate": "%{x}: %{y:,}<extra></extra>"}
    ]  # fmt: skip
    axis = {"type": "category", "fixedrange": True, "nticks": 12}
    layout = _layout(180, xaxis=axis, yaxis={"fixedrange": True, "automargin": True, "nticks": 5, "tickformat": "~s"})
    return {"data": data, "layout": layout}


def grouped(
    names: Sequence[str], series: Mapping[str, Sequence[float]], colours: Sequence[str], suffix: str = ""
) -> Figure:
    """Bars to the right, some for each name, with a legend."""
    data = [
        {
            "type": "bar", "orientation": "h", "name": escaped(title), "x": list(values), "y": list(range(len(names))),
            "marker": {"color": colour}, "hovertemplate": "%{x:,.4~g}" + suffix + f"<extra>{escaped(title)}</extra>",
        }
        for (title, values), colour in zip(series.items(), colours, strict=True)
    ]  # fmt: skip
    axis = {
        "tickvals": list(range(len(names))), "ticktext": [_named(name) for name in names], "autorange": "reversed",
        "automargin": True, "fixedrange": True,
    }  # fmt: skip
    height = 90 + (ROW - 6) * len(names) * len(series) + 8 * len(names)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    return {
        "data": data,
        "layout": _layout(
            height, yaxis=axis, barmode="group", showlegend=True, legend=legend, bargap=0.3,
            xaxis={"fixedrange": True, "nticks": 5, "ticksuffix": suffix}, margin={"l": 8, "r": 16, "t": 34, "b": 36},
        ),
    }  # fmt: skip


def bars(
    histogram: Mapping[str, Any],
    limit: float | None = None,
    title: str = "",
    colour: str = "$kept",
    other: float | None = None,
    shift: float = 0.0,
    height: int = 200,
    axis_of: tuple[float, float] | None = None,
) -> Figure:
    """A histogram; what breaks the rule in another colour, the limit as a line, `shift` beside its place. `other` is a
    second run's limit, `axis_of` (see `span`) what the axis shows where it is not the bars alone."""
    edges, data = histogram["edges"], []
    first, last = axis_of or (edges[0], edges[-1])
    ends = [_number(edge) for edge in edges]
    labels = [f"{a} to {b}" for a, b in itertools.pairwise(ends)]
    if edges and _each_whole(edges):
        labels = [f"{edge + 0.5:,.0f}" for edge in edges[:-1]]
    if histogram["below"]:
        labels[0] = f"below {ends[1]}"
    if histogram["above"]:
        labels[-1] = f"{ends[-2]} and more"
    log = histogram["log"]
    middle = [math.sqrt(a * b) if log else (a + b) / 2 for a, b in itertools.pairwise(edges)]
    width = [b - a for a, b in itertools.pairwise(edges)]
    for name, shade in (("passing", colour), ("breaking", "$lost")):
        if any(histogram[name]):
            data.append(
                {
                    "type": "bar", "x": middle, "y": histogram[name], "width": width, "marker": {"color": shade},
                    "customdata": labels, "name": "pass" if name == "passing" else "break the rule",
                    "hovertemplate": "%{customdata}: %{y:,}<extra></extra>" if name == "passing"
                    else "%{customdata}: %{y:,} break it<extra></extra>",
                }
            )  # fmt: skip
    axis: dict[str, Any] = {
        "fixedrange": True,
        "tickformat": ",.6~g",
        "title": {"text": title, "font": {"size": 11}},
        "nticks": 6,
    }
    axis |= {"range": [math.log10(first), math.log10(last)] if log else [first, last]} if axis_of else {}
    if log:  # bars lie side by side on a logarithmic axis where their places are logarithms
        for trace in data:
            trace["x"] = [math.log10(value) for value in middle]
            trace["width"] = [math.log10(b / a) for a, b in itertools.pairwise(edges)]
        low, high = math.log10(first), math.log10(last)
        ticks = [power for power in range(math.floor(low), math.ceil(high) + 1) if low <= power <= high]
        values = [10.0**power for power in ticks]
        if len(ticks) < 3:
            values = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
            values = [value for value in values if first <= value <= last]
        axis |= {"tickvals": [math.log10(value) for value in values], "ticktext": [compact(value) for value in values]}
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for value, name, shade in ((limit, "limit", "$text"), (other, "other run's limit", "$accent")):
        if value is not None and math.isfinite(value):
            _mark(value + shift, f"{name} {_number(value)}", shade, (first, last), log, shapes, notes)
    rare, often = max(histogram["breaking"], default=0), max(histogram["passing"], default=0)
    steep = 0 < rare < _RARE * often
    layout = _layout(
        height, barmode="stack", bargap=0, shapes=shapes, annotations=notes, xaxis=axis,
        yaxis={"fixedrange": True, "automargin": True, "nticks": 5, "tickformat": "~s"}
        | ({"type": "log", "dtick": 1, "title": {"text": "log scale", "font": {"size": 10}}} if steep else {}),
        margin={"l": 36, "r": 8, "t": 8, "b": 46 if title else 30},
    )  # fmt: skip
    return {"data": data, "layout": layout}


def span(*histograms: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """What the axes of two histograms have to show to be read side by side; None where one is missing, or they are not
    of one kind."""
    known = [one for one in histograms if one is not None]
    if len(known) < 2 or len({one["log"] for one in known}) > 1:
        return None
    return min(one["edges"][0] for one in known), max(one["edges"][-1] for one in known)


def _mark(
    value: float,
    text: str,
    colour: str,
    ends: tuple[float, float],
    log: bool,
    shapes: list[dict[str, Any]],
    notes: list[dict[str, Any]],
) -> None:
    """A limit as a line with its name, or as an arrow to the side on which it lies beyond what is shown."""
    note: dict[str, Any] = {"yref": "paper", "y": 1, "yanchor": "top", "showarrow": False, "bgcolor": "$card"}
    note |= {"font": {"size": 11, "color": colour}, "text": text}
    note["y"] -= 0.14 * len(notes)
    if value < ends[0] or value > ends[1] or (log and value <= 0):
        right = value > ends[1]
        note |= {"xref": "paper", "x": int(right), "xanchor": "right" if right else "left"}
        note["text"] = f"{text} ▸" if right else f"◂ {text}"
    else:
        low, place, high = (math.log10(one) if log else one for one in (ends[0], value, ends[1]))
        left = place > low + 0.6 * (high - low)
        note |= {"x": place, "xanchor": "right" if left else "left", "xshift": -3 if left else 3}
        line = {"color": colour, "width": 1.5, "dash": "dash"}
        shapes.append({"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "yref": "paper", "line": line})
    notes.append(note)


def rule(facts: RuleFacts, other: RuleFacts | None = None) -> Figure | None:
    """The histogram of a rule, with the limit of another run where that is another one."""
    if facts.spread is None:
        return None
    # Whole numbers have a bar each: the limit stands between those that pass and those that do not.
    shift = (0.5 if facts.setting.startswith("max_") else -0.5) if _each_whole(facts.spread.edges) else 0.0
    places = [None if one is None or one.limit is None else one.limit for one in (facts, other)]
    second = places[1] if places[1] != places[0] else None
    both = span(*(None if one is None or one.spread is None else vars(one.spread) for one in (facts, other)))
    return bars(vars(facts.spread), places[0], other=second, shift=shift, axis_of=both)


def _each_whole(edges: Sequence[float]) -> bool:
    return all(edge % 1 == 0.5 for edge in edges)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
