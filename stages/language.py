"""Which language a text is in."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
from annotated_types import Ge, Le
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from stages.base import Outcome, Stage, with_column
from stages.rows import Drop, outcome, strings, text_array

UNKNOWN = "und"
"""ISO 639-3's code for a language that cannot be told; given to texts without letters."""

_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv "
    "fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la "
    "lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se "
    "si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx"
)
LANGUAGES = tuple(_CODES.split())
"""The codes that py3langid's model gives: ISO 639-1, and 639-3 where there is none; `zxx` is no language."""

_LETTER = regex.compile(r"\p{L}")


@dataclass(frozen=True, kw_only=True)
class Language(Stage):
    """Finds each document's language with py3langid (naive Bayes over byte n-grams; Lui and Baldwin 2012).

    Writes the columns `language` (ISO 639-1, or 639-3 where that has no code; `und` for texts without
    letters) and `language_score` (0 to 1, in thousandths). Drops what is not in `keep` as `wrong_language`
    and what scores too low as `low_score`.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("py3langid", "regex")

    keep: tuple[str, ...] = ()
    """Codes of the languages to keep; empty keeps all."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Least probability of the language found (compared in thousandths)."""
    max_characters: Annotated[int, Ge(1)] = 1_000
    """How many characters, from the start of the text, are looked at."""

    def __post_init__(self) -> None:
        for code in self.keep:
            if code not in (*LANGUAGES, UNKNOWN):
                base = code.lower().replace("_", "-").split("-")[0]
                near = [base] if base in LANGUAGES else difflib.get_close_matches(base, LANGUAGES, n=1, cutoff=0.4)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ValueError(
                    f"keep: '{code}' is no language that can be found; codes are ISO 639-1, such as en or zh.{hint}"
                )

    def process(self, batch: pa.RecordBatch) -> Outcome:
        least = round(self.min_score * 1000)
        drops: list[Drop] = []
        codes: list[str | None] = []
        scores: list[int] = []
        for row, text in enumerate(strings(batch, "text")):
            code, score = (UNKNOWN, 0) if text is None else identify(text[: self.max_characters])
            codes.append(code)
            scores.append(score)
            if text is None:
                drops.append((row, "no_text", None, None))
            elif self.keep and code not in self.keep:
                drops.append((row, "wrong_language", score / 1000, None))
            elif score < least:
                drops.append((row, "low_score", score / 1000, self.min_score))
        batch = with_column(batch, "language", text_array(codes))
        column = pa.array(np.array(scores, np.float32) / np.float32(1000), pa.float32())
        return outcome(batch, drops, {"language_score": column})


def identify(text: str) -> tuple[str, int]:
    """The language of a text and its probability in thousandths; `und` and 0 where there is no letter."""
    if not _LETTER.search(text):
        return UNKNOWN, 0
    code, score = _identifier().classify(text)
    return code, round(score * 1000)


class _Identifier(LanguageIdentifier):  # type: ignore[misc]
    """py3langid with sums of one fixed order: its own matrix product goes through BLAS, whose order of
    summation depends on the number of threads."""

    __slots__ = ()

    def _sparse_score(self, visits: Mapping[int, int], table: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        rows = table[np.fromiter(visits.keys(), np.intp, len(visits))].astype(np.float64)
        weights = np.array([math.log1p(count) for count in visits.values()])
        total: npt.NDArray[np.float64] = np.add.reduce(rows * weights[:, None], axis=0) + self.nb_pc
        return total


@functools.cache
def _identifier() -> _Identifier:
    """The model that the package ships, loaded once a process (about half a second)."""
    identifier: _Identifier = _Identifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier
