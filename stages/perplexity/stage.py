"""The stage that scores documents by KenLM's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
from annotated_types import Ge
from pydantic import ConfigDict

from stages.base import Outcome, Processor, Rule, Stage, judged, with_column
from stages.perplexity.model import Model, language_model, sentence_pieces
from stages.perplexity.normal import normal
from stages.rows import strings, text_array

_UNIT = 10
"""Perplexities are kept and compared in tenths, as CCNet rounds them."""
_MOST = 12.0
"""Logarithm of the greatest perplexity told apart: unlikelier texts are as bad."""
Limit = Annotated[float, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """The files of one language, and its limits: perplexities of two models do not compare."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    lm: str
    """KenLM's file: ARPA, or what `build_binary FILE.arpa FILE.bin` made of it (no trie); either may be gzipped."""
    sentencepiece: str = ""
    """SentencePiece's model whose pieces are the tokens; empty: what stands between blanks."""
    head: Limit | None = None
    """A lower perplexity is `head` in the column `perplexity_bucket`."""
    tail: Limit | None = None
    """A perplexity of this or more is `tail`, one between the two `middle`."""
    min_perplexity: Limit | None = None
    """In place of the stage's."""
    max_perplexity: Limit | None = None
    """In place of the stage's."""


@dataclass(frozen=True, kw_only=True)
class Perplexity(Stage):
    """Scores documents by how well an n-gram model of good text foretells them (CCNet: Wenzek et al. 2020, 4.3).

    Writes `perplexity` (in tenths; null where the language has no model, and for blank texts), and `perplexity_bucket`
    where a language has `head` and `tail`. Texts like the model's (Wikipedia, in CCNet) score low,
    lists and garbage high; speech and poetry too, which is why CCNet keeps the buckets apart and drops none. It puts
    its limits at the 30th and 60th percentile of each language, as `corpusmill inspect --rules` shows them for a run
    with `no_model: drop` and one model.
    """

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex", "sentencepiece")

    models: Mapping[str, LanguageModel] = field(default_factory=dict)
    """By language (column `language`): `lm` and, each if wished, `sentencepiece`, `head` and `tail`, `min_perplexity`,
    `max_perplexity`. Each worker holds all of them in memory."""
    min_perplexity: Limit | None = None
    """Least perplexity (`low_perplexity`): below it is what repeats itself, or what the model was made of."""
    max_perplexity: Limit | None = None
    """Greatest perplexity (`high_perplexity`)."""
    no_model: Literal["keep", "drop"] = "keep"
    """What becomes of documents in a language without a model."""
    normalize: bool = True
    """As CCNet: small letters, each digit 0, punctuation in ASCII, no control characters. The models must be made of
    such text too."""
    accents: bool = False
    """Leave accents and other marks in place, which CCNet's models have not."""
    join_lines: bool = False
    """Score the text as a single sentence, as CCNet's code does, which deletes line breaks and joins the words around
    them; limits taken from it ask for that. Else each line is a sentence, as the paper says."""

    def __post_init__(self) -> None:
        _check_order("", self.min_perplexity, self.max_perplexity)
        for name, item in self.models.items():
            if not regex.fullmatch("[a-z]{2,3}", name):
                raise ValueError(f"models: '{name}' is no code of a language; codes are ISO 639-1, such as en or zh")
            _check_order(f"models.{name}.", item.min_perplexity, item.max_perplexity)
            if (item.head is None) != (item.tail is None):
                raise ValueError(f"models.{name}: head and tail are set together, or neither is")
            if item.head is not None and item.tail is not None and item.head > item.tail:
                raise ValueError(f"models.{name}: head ({item.head}) is above tail ({item.tail})")

    def files(self) -> dict[str, str]:
        named = {f"{name}.lm": item.lm for name, item in self.models.items()}
        pieces = {f"{name}.sentencepiece": item.sentencepiece for name, item in self.models.items()}
        return named | {role: path for role, path in pieces.items() if path}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        if not self.models:
            raise ValueError("models: none is named, so nothing could be scored; say `models: {en: {lm: en.arpa.bin}}`")
        found = {}
        for name, item in self.models.items():
            pieces = f"{name}.sentencepiece"
            try:
                lm = language_model(files[f"{name}.lm"], item.lm)
            except ValueError as error:
                raise ValueError(f"models.{name}.lm: {error}") from None
            try:
                split = sentence_pieces(files[pieces], item.sentencepiece) if pieces in files else None
            except ValueError as error:
                raise ValueError(f"models.{pieces}: {error}") from None
            found[name] = Model(lm, split)
        return partial(self._judge, found)

    def _judge(self, models: Mapping[str, Model], batch: pa.RecordBatch) -> Outcome:
        texts = strings(batch, "text")
        languages = [(code or "").lower().replace("_", "-").partition("-")[0] for code in strings(batch, "language")]
        tenths = np.full(len(texts), -1, np.int64)
        for name, model in models.items():
            rows = [row for row, language in enumerate(languages) if language == name]
            lines = {row: found for row in rows if (found := self._lines(texts[row] or ""))}
            sums, tokens = model.score(list(lines.values()))
            exponents = np.fmin(-sums / np.maximum(tokens, 1), _MOST)
            tenths[list(lines)] = [round(_UNIT * 10.0**exponent) for exponent in exponents.tolist()]
        told = tenths >= 0
        value = np.where(told, tenths / _UNIT, np.nan)
        batch = with_column(batch, "perplexity", pa.array(value, pa.float32(), mask=~told))
        if any(item.head is not None for item in self.models.values()):
            buckets = [self._bucket(language, one) for language, one in zip(languages, tenths.tolist(), strict=True)]
            batch = with_column(batch, "perplexity_bucket", text_array(buckets))
        rules = [Rule("no_text", batch.column("text").is_null().to_numpy(zero_copy_only=False))]
        if self.no_model == "drop":
            rules.append(Rule("no_model", np.array([language not in models for language in languages], np.bool_)))
        for setting, reason, hit in (
            ("min_perplexity", "low_perplexity", np.less),
            ("max_perplexity", "high_perplexity", np.greater),
        ):
            named = any(getattr(item, setting) is not None for item in (self, *self.models.values()))
            if named or setting == "max_perplexity":  # without a limit too, so that `inspect` shows the values
                limit = self._limits(setting, languages)
                rules.append(Rule(reason, told & hit(tenths, np.rint(limit * _UNIT)), value, limit, setting))
        return judged(batch, rules)

    def _lines(self, text: str) -> list[str]:
        """The sentences of a text."""
        lines = [text] if self.join_lines else text.split("\n")
        if self.normalize:
            lines = [normal(line, self.accents) for line in lines]
        return [line.replace("\n", " ") for line in lines if line and not line.isspace()]

    def _bucket(self, language: str, tenths: int) -> str | None:
        item = self.models.get(language)
        if tenths < 0 or item is None or item.head is None or item.tail is None:
            return None
        if tenths < round(item.head * _UNIT):
            return "head"
        return "middle" if tenths < round(item.tail * _UNIT) else "tail"

    def _limits(self, setting: str, languages: list[str]) -> npt.NDArray[np.float64]:
        """The limit of each row, NaN where there is none."""
        own = getattr(self, setting)
        by_language = {name: getattr(item, setting) for name, item in self.models.items()}
        limits = [own if (other := by_language.get(language)) is None else other for language in languages]
        return np.array([np.nan if limit is None else limit for limit in limits], np.float64)


def _check_order(where: str, least: float | None, most: float | None) -> None:
    if least is not None and most is not None and least > most:
        raise ValueError(f"{where}min_perplexity ({least}) is above max_perplexity ({most})")
