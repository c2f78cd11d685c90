"""A report as HTML: templates that escape all they are given, and a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pipeline.look.extra import look_extra
from pipeline.look.report.charts import compact
from pipeline.look.runfolder import origin_text, printable
from pipeline.show import size_text

_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_HERE = "pipeline.look.report"


def render(template: str, values: Mapping[str, Any], charts: Mapping[str, Any]) -> str:
    """The page. Raises UserError where the packages that make it are not installed."""
    with look_extra("a report"):
        import jinja2
        from markupsafe import Markup

        plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    place = files(_HERE) / "page"
    loader = jinja2.FunctionLoader(lambda name: (place / name).read_text("utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "n": lambda value: f"{value:,}", "compact": compact, "size": size_text, "pct": _percent, "origin": origin_text,
        "figure": figure, "printable": printable,
    }  # fmt: skip
    scripts = [plotly.replace("</script", "<\\/script"), (place / "report.js").read_text("utf-8")]
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(_hash(script) for script in scripts)}"
    )
    own: dict[str, Any] = {
        "policy": policy,
        "style": Markup((place / "report.css").read_text("utf-8")),
        "scripts": [Markup(script) for script in scripts],
        "charts": {name: Markup(in_script(chart)) for name, chart in charts.items() if chart},
    }
    return environment.get_template(template).render(**values, **own)


def in_script(value: Any) -> str:
    """JSON that can stand in a script element whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE)


def figure(value: float | None) -> str:
    """A figure of a document: whole numbers whole, others to three places."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{part / whole:.{digits}%}" if whole else "–"


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
