"""`corpusmill inspect --rules` and `--what-if`: how the values spread that limits are held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.look.histogram import QUANTILES
from pipeline.look.runfolder import RunFolder
from pipeline.measures import FOLDER, is_limit
from pipeline.settings import explain
from stages.base import BROKEN, Stage
from stages.registry import make


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of one limit: of the documents that reached its stage, with what they break there."""

    label: str
    setting: str
    bit: int
    values: npt.NDArray[np.float32]
    broken: npt.NDArray[np.uint32]

    def breaks(self, limit: float) -> npt.NDArray[np.bool_]:
        """Which values another limit would drop; a document that the rule does not apply to has no value."""
        below: npt.NDArray[np.bool_] = self.values < np.float32(limit)
        above: npt.NDArray[np.bool_] = self.values > np.float32(limit)
        return below if self.setting.startswith("min_") else above


class Rules:
    """The measures of a run folder. Raises UserError where it has none."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        if run.removed(FOLDER):
            raise UserError(
                f"`corpusmill clean` took the measures out of {run.folder}; running the recipe again brings them back"
            )
        self.paths = self.run.parts(FOLDER)
        self.names = [name for name in pq.read_schema(self.paths[0]).names if name != "id"] if self.paths else []
        if not self.settings():
            raise UserError(
                f"no stage of the run in {run.folder} has limits whose values are kept; --scores shows columns"
            )
        self.stages: dict[str, Stage] = dict(self.run.context.recipe.chain())

    def settings(self) -> dict[str, list[str]]:
        """The limits by label of the stage, in their order."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            label, _, setting = name.rpartition(".")
            if is_limit(setting):
                found.setdefault(label, []).append(setting)
        return found

    def column(self, label: str, setting: str) -> Column:
        """The values of one limit."""
        bit = self.settings()[label].index(setting)
        table = pq.read_table(self.paths, columns=[f"{label}.{setting}", f"{label}.{BROKEN}"])
        table = table.filter(table.column(f"{label}.{BROKEN}").is_valid())
        values, broken = (column.to_numpy() for column in table.columns)
        return Column(label, setting, bit, values, broken)


def overview(folder: Path) -> list[dict[str, Any]]:
    """For each limit: how many documents reached it, how their values spread, how many break it, and it alone."""
    rules = Rules(RunFolder(folder))
    found = []
    for label, settings in rules.settings().items():
        for setting in settings:
            column = rules.column(label, setting)
            mine = np.uint32(1 << column.bit)
            applied = column.values[~np.isnan(column.values)]
            spread = np.quantile(applied, QUANTILES, method="lower").tolist() if len(applied) else []
            found.append(
                {
                    "stage": label,
                    "setting": setting,
                    "limit": limit_of(rules.stages[label], setting),
                    "reached": len(column.values),
                    "applied": len(applied),
                    "quantiles": dict(zip(map(str, QUANTILES), spread, strict=False)),
                    "broken": int((column.broken & mine != 0).sum()),
                    "broken_alone": int((column.broken == mine).sum()),
                }
            )
    return found


def limit_of(stage: Stage, setting: str) -> float | None:
    """The limit that the run had; None where it goes by another setting's name, as C4's thresholds."""
    value = getattr(stage, setting)
    return None if value is None else float(value)


def what_if(folder: Path, changes: Sequence[str]) -> list[dict[str, Any]]:
    """What each change of a limit would keep: `STAGE.SETTING=VALUE`, as `run --set` has it.

    Raises RecipeError where there is no such limit or the value is none.
    """
    rules = Rules(RunFolder(folder))
    return [_what_if(rules, change) for change in changes]


def _what_if(rules: Rules, change: str) -> dict[str, Any]:
    key, sign, text = change.partition("=")
    key = key.strip().removeprefix("stages.")
    label, _, setting = key.rpartition(".")
    settings = rules.settings()
    known = [f"{name}.{one}" for name, ones in settings.items() for one in ones]
    if key not in known:
        raise RecipeError(f"--what-if {change}: no such limit.{nearest(key, known)} `inspect --rules` lists them.")
    try:
        limit = float(text) if sign else None
    except ValueError:
        limit = None
    if limit is None:
        raise RecipeError(f"--what-if {change}: give a number, as {key}=0.5")
    stage = rules.stages[label]
    try:
        make(type(stage), dataclasses.asdict(stage) | {setting: int(limit) if limit.is_integer() else limit})
    except ValidationError as error:
        raise RecipeError(f"--what-if {change}: {'; '.join(explain(error, type(stage)))}") from None
    column = rules.column(label, setting)
    others = column.broken & ~np.uint32(1 << column.bit) != 0
    before = column.broken == 0
    after = ~others & ~column.breaks(limit)
    return {
        "stage": label,
        "setting": setting,
        "limit": limit_of(stage, setting),
        "changed_to": limit,
        "reached": len(before),
        "kept": int(before.sum()),
        "would_keep": int(after.sum()),
        "would_stay": int((after & ~before).sum()),
        "would_go": int((before & ~after).sum()),
    }


def print_rules(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A table for each stage: how values spread beside their limit."""
    for label in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == label]
        reached = mine[0]["reached"]
        table = Table(title=f"{label}: values of the {reached:,} documents that reached it", title_justify="left")
        table.add_column("setting")
        for name in (
            "limit",
            "break it",
            "it alone",
            "least",
            "1 %",
            "5 %",
            "25 %",
            "50 %",
            "75 %",
            "95 %",
            "99 %",
            "most",
        ):
            table.add_column(name, justify="right")
        for row in mine:
            spread = [short(value) for value in row["quantiles"].values()] or [""] * len(QUANTILES)
            limit = "" if row["limit"] is None else short(row["limit"])
            table.add_row(row["setting"], limit, f"{row['broken']:,}", f"{row['broken_alone']:,}", *spread)
        console.print(table)


def print_what_if(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A line for each change."""
    for row in rows:
        was = "its default" if row["limit"] is None else short(row["limit"])
        console.print(
            f"{row['stage']}.{row['setting']} {was} -> {short(row['changed_to'])}: of {row['reached']:,} documents "
            f"that reached it {row['kept']:,} -> {row['would_keep']:,} are kept "
            f"({row['would_stay']:,} more would stay, {row['would_go']:,} more would go)", highlight=False,
        )  # fmt: skip
    console.print("Stages behind it have not seen what would stay.", highlight=False)


def short(value: float) -> str:
    """A figure in a table: whole numbers whole, others to three places."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.3g}"
