"""Languages: found, kept, and the same on every machine."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import ValidationError
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.language import LANGUAGES, Language, identify
from stages.registry import make

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
