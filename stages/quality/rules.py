"""What the stages of quality rules have in common: thresholds by language, over the shared table of counts."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError

from stages import segmenters
from stages.base import Outcome, Processor, Rule, Stage, judged
from stages.quality.statistics import counted
from stages.rows import strings
from stages.text.column import Ints

Share = Annotated[float, Ge(0), Le(1)]
Limit = float | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class QualityStage(Stage):
    """Base of the stages whose rules are thresholds over `stages.quality.fields`."""

    by_language: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Other limits for some languages: code of the column `language` to settings of this stage."""

    def __post_init__(self) -> None:
        limits = self.limits_of_rules()
        for language, changed in self.by_language.items():
            for name in changed:
                if name not in limits:
                    near = difflib.get_close_matches(name, limits, n=1, cutoff=0.5)
                    hint = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(limits)}."
                    raise ValueError(f"by_language.{language}: '{name}' is no limit of this stage.{hint}")
            own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "by_language"}
            try:
                TypeAdapter(type(self)).validate_python({**own, **changed})
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, (language, *first["loc"])))
                raise ValueError(f"by_language.{where}: {first['msg']}, not {first['input']!r}") from None

    @classmethod
    def limits_of_rules(cls) -> list[str]:
        """The settings that are numbers: those that may differ by language."""
        return [f.name for f in dataclasses.fields(cls) if f.name.startswith(("min_", "max_", "short_", "long_"))]

    def only(self, *names: str, **others: Any) -> Self:
        """The stage with these limits as they are, for each language too, and `others` as given here."""
        changed = {language: {n: x for n, x in own.items() if n in names} for language, own in self.by_language.items()}
        return dataclasses.replace(self, by_language=changed, **others)

    def limit(self, name: str, batch: pa.RecordBatch) -> Limit:
        """A limit: one number, or one for each row where languages differ in it."""
        own = float(getattr(self, name))
        changed = {language: limits[name] for language, limits in self.by_language.items() if name in limits}
        if not changed:
            return own
        languages = [(language or "").lower().split("-")[0] for language in strings(batch, "language")]
        return np.array([changed.get(language, own) for language in languages], np.float64)

    def at_most(self, setting: str, reason: str, value: npt.NDArray[Any], batch: pa.RecordBatch) -> Rule:
        """The rule that drops what is greater than the setting."""
        limit = self.limit(setting, batch)
        return Rule(reason, value > limit, value, limit, setting)

    def at_least(self, setting: str, reason: str, value: npt.NDArray[Any], batch: pa.RecordBatch) -> Rule:
        """The rule that drops what is less than the setting."""
        limit = self.limit(setting, batch)
        return Rule(reason, value < limit, value, limit, setting)

    def rules(self, counts: Ints, batch: pa.RecordBatch) -> Sequence[Rule]:
        """The rules in the order in which they are held against a text; `counts[FIELD]` is an array over the rows."""
        raise NotImplementedError

    def counted(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Ints]:
        """The batch with its counts beside it, and the counts."""
        return counted(batch)

    def process(self, batch: pa.RecordBatch, others: Sequence[Rule] = ()) -> Outcome:
        """The batch held against `rules`, and then against `others`, which need more than the counts."""
        batch, counts = self.counted(batch)
        return judged(batch, [no_text(batch), *self.rules(counts, batch), *others])


@dataclass(frozen=True, kw_only=True)
class WordsStage(QualityStage):
    """Base of the stages that count words."""

    segmenter: Mapping[str, str] = field(default_factory=dict)
    """What cuts words in scripts without spaces, by language (column `language`): `icu` (zh, yue, wuu, ja, th, lo, km,
    my), `jieba` (zh, yue, wuu), both of the extra `segmenters`, or the import path of your own function from a text to
    its words (`package.module:function`). Without one each character is a word, and what it leaves out or changes is
    cut so too. Stages that name the same share its work."""

    def __post_init__(self) -> None:
        segmenters.check(self.segmenter)
        super().__post_init__()

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        segmenters.ready(self.segmenter)
        return super().bind(files)

    def fingerprint(self) -> dict[str, object]:
        found = super().fingerprint()
        packages = cast(dict[str, str], found["packages"])
        return found | {"packages": packages | segmenters.versions(self.segmenter)}

    def counted(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Ints]:
        return counted(batch, self.segmenter)

    def segmented(self, batch: pa.RecordBatch, languages: Collection[str]) -> npt.NDArray[np.bool_]:
        """Which rows have a segmenter and are in one of these languages."""
        return np.array([language in languages for _, language in segmenters.names(batch, self.segmenter)], np.bool_)


def no_text(batch: pa.RecordBatch) -> Rule:
    """The first rule of every stage: there is nothing to judge in a null."""
    return Rule("no_text", batch.column("text").is_null().to_numpy(zero_copy_only=False))


def refuse_empty_phrases(stage: Stage, *settings: str) -> None:
    """Raises ValueError if one of these lists of phrases holds an empty one."""
    for name in settings:
        if not all(phrase.strip() for phrase in getattr(stage, name)):
            raise ValueError(f"{name}: an empty phrase is in every line")


def counts_of_cut(
    rules: Sequence[Rule], reasons: Sequence[str], lines: Ints, before: pa.Array, after: pa.Array
) -> dict[str, int]:
    """What was cut from the texts that the rules keep: `lines_cut_REASON` and `characters_cut`, where it is any.

    `lines` holds for each text how many of its lines were cut for each of `reasons`; an empty reason is none.
    """
    kept = ~np.logical_or.reduce([rule.hit for rule in rules])
    totals = lines[kept].sum(axis=0).tolist()
    counts = {f"lines_cut_{reason}": total for reason, total in zip(reasons, totals, strict=True) if reason}
    if after is not before:
        lost = pc.subtract(pc.utf8_length(before), pc.utf8_length(after)).filter(pa.array(kept))
        counts["characters_cut"] = pc.sum(lost).as_py() or 0
    return {name: count for name, count in counts.items() if count}


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """`part / whole`, 0 where the whole is 0."""
    result: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return result
