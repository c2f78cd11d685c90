"""Words that a segmenter cuts in scripts without spaces: found again in the bytes, and counted."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import quality_reference as reference
from hypothesis import example, given
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, bound, needs_shared, reasons
from test_quality_count import ANY, LIKELY

from stages import segmenters
from stages.quality.c4 import C4
from stages.quality.count import count
from stages.quality.fields import FIELDS, TERMS, WORDS
from stages.quality.gopher import GopherQuality
from stages.quality.refinedweb import RefinedWebLines
from stages.quality.repetition import GopherRepetition
from stages.quality.rules import WordsStage
from stages.quality.statistics import counted, cuts_of
from stages.quality.stopwords import StopWords
from stages.segmenters import Cuts, cuts
from stages.text.column import texts

pytest.importorskip("icu4py", reason="the extra `segmenters` is not installed")
pytest.importorskip("rjieba", reason="the extra `segmenters` is not installed")

CHINESE = "今天的天气很好，我们在公园里散步，看到了许多人和一些小鸟。他们都很高兴，因为春天来了。" * 3
JAPANESE = "今日はとても天気がいいので、公園を散歩しました。たくさんの人がいて、鳥も鳴いていました。" * 3
THAI = "วันนี้อากาศดีมาก และเราไปเดินเล่นที่สวนสาธารณะ มีคนจำนวนมากและนกในต้นไม้ของสวน " * 3
MIXED = st.one_of(ANY, LIKELY, st.text("我们今天 a1.。，กี่ดีカー\u0301\n", max_size=60))


def places(text: str, at: Iterable[int]) -> Cuts:
    """Cuts of one text, from places in characters."""
    found = [len(text[:place].encode()) for place in sorted(set(at))]
    return Cuts(np.array(found, np.int64), np.array([0, len(found)], np.int64))


def one(text: str, at: Iterable[int]) -> dict[str, int]:
    return dict(zip(FIELDS, count(texts(pa.array([text])), places(text, at))[0].tolist(), strict=True))


@given(text=MIXED, at=st.sets(st.integers(0, 60), max_size=20))
@example(text="我们在公园。我们在公园，我们 abc公园T恤", at={2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 18, 20, 22})
@example(text="วันนี้อากาศดีมาก", at={6, 11})
def test_counts_with_cuts_are_those_of_plain_python(text: str, at: set[int]) -> None:
    """Else a document would be judged by other words than its segmenter cut."""
    at = {place for place in at if place <= len(text)}
    assert one(text, at) == reference.counts(text, at)


@given(text=MIXED, at=st.sets(st.integers(0, 60), max_size=20))
def test_stop_words_are_whole_words(text: str, at: set[int]) -> None:
    """`的` inside of a longer word would count; or a stop word that the segmenter parts (`と` `いう`) would not."""
    at = {place for place in at if place <= len(text)}
    listed = ["我", "我们", "今天", "カー", "ดี", "a"]
    spans = reference.terms(text, at)
    runs = {text[spans[i][0] : spans[j][1]] for i in range(len(spans)) for j in range(i, min(i + 3, len(spans)))}
    found = StopWords({"zh": listed}).count(texts(pa.array([text])), np.zeros(1, np.int64), places(text, at))
    assert found[0] == len(set(listed) & runs)


def test_stop_words_without_a_segmenter_are_found_anywhere() -> None:
    """Chinese without a segmenter would have no stop words."""
    lists = StopWords({"zh": ["我", "是"]})
    assert lists.count(texts(pa.array(["这是我们"])), np.zeros(1, np.int64)).tolist() == [2]
    assert lists.count(texts(pa.array(["这是我们"])), np.zeros(1, np.int64), places("这是我们", {1, 2, 4}))[0] == 1


@given(
    pieces=st.lists(
        st.tuples(st.text(" ,。\nab", max_size=3), st.text("我们今กี่カーab1", min_size=1, max_size=4)), max_size=12
    ),
    gaps=st.booleans(),
)
def test_words_are_found_again(pieces: list[tuple[str, str]], gaps: bool) -> None:
    """Words would be cut in other places than the segmenter said where it leaves blanks out, as many do."""
    text = "".join(gap + word for gap, word in pieces)
    ends, starts, at = set(), set(), 0
    for gap, word in pieces:
        starts.add(at + len(gap))
        ends.add(at := at + len(gap) + len(word))
    words = [word for gap, word in pieces] if gaps else [part for pair in pieces for part in pair]
    found, whole = segmenters._ends(text, words)
    assert whole
    if "".join(words) == text:
        assert set(found.tolist()) >= ends
    elif not any(word.isascii() for _, word in pieces):  # a word may also be found in what was left out before it
        assert set(found.tolist()) == (ends | starts) - {0}


def test_what_a_segmenter_changes_is_cut_by_character() -> None:
    """A segmenter that folds or drops letters would shift all words behind, or stop a run."""
    found, whole = segmenters._ends("今天天气很好", ["今天", "天氣", "很好"])
    assert (found.tolist(), whole) == ([2], False)
    assert segmenters._ends("今天天气", ["今天"])[1] is False
    assert one("今天天气很好", [2])["terms"] == 5


def half(text: str) -> list[str]:
    """A user's segmenter: words of two characters."""
    return [text[at : at + 2] for at in range(0, len(text), 2)]


def broken(text: str) -> list[str]:
    return [text.upper(), "x"]


def raises(text: str) -> list[str]:
    raise KeyError("no model")


NOT_CALLABLE = "words"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"zh": "jeiba"}, "segmenter.zh: there is no segmenter 'jeiba'. Known: icu, jieba"),
        ({"en": "icu"}, "segmenter.en: 'icu' cuts no text in 'en', but in zh"),
        ({"th": "jieba"}, "'jieba' cuts no text in 'th'"),
        ({"zh-CN": "jieba"}, "'zh-CN' is no code of a language"),
        ({"zh": "no.such:function"}, "segmenter.zh: the segmenter 'no.such:function' cannot be imported"),
        ({"zh": "test_segmenters:haf"}, "Did you mean 'half'"),
        ({"zh": "test_segmenters:NOT_CALLABLE"}, "is no function"),
        ({"zh": "test_segmenters:broken"}, "should give the words of a text in their order"),
        ({"zh": "test_segmenters:raises"}, "fails: KeyError: 'no model'"),
    ],
)
def test_segmenters_that_cannot_be_are_errors_before_work(named: dict[str, str], says: str) -> None:
    """A misspelt or broken segmenter would be found out in the middle of a run, or never."""
    with pytest.raises(ValueError, match="segmenter") as caught:
        bound(GopherQuality(segmenter=named))
    assert says in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user would not know what to install."""
    monkeypatch.setitem(sys.modules, "rjieba", None)
    segmenters._loaded.cache_clear()
    with pytest.raises(ValueError, match=r"package rjieba, which is not installed: pip install 'corpusmill\[segmen"):
        bound(GopherRepetition(segmenter={"zh": "jieba"}))


@pytest.mark.parametrize(
    ("text", "language", "name", "words"),
    [
        ("我们在北京大学学习。", "zh-Hans", "jieba", ["我们", "在", "北京大学", "学习"]),
        ("今天天气很好", "zh", "icu", ["今天", "天气", "很好"]),
        ("今日はとても天気がいい", "ja", "icu", ["今日", "は", "とても", "天気", "が", "いい"]),
        ("วันนี้อากาศดีมาก", "th", "icu", ["วัน", "นี้", "อากาศ", "ดี", "มาก"]),
        ("ປະເທດລາວ", "lo", "icu", ["ປະເທດ", "ລາວ"]),
        ("ប្រទេសកម្ពុជា", "km", "icu", ["ប្រទេស", "កម្ពុជា"]),
        ("天天向上", "zh", "test_segmenters:half", ["天天", "向上"]),
    ],
)
def test_words_of_languages(text: str, language: str, name: str, words: list[str]) -> None:
    """A language's words would be its characters, though the recipe names a segmenter."""
    named = {language[:2]: name}
    data, counts = counted(batch([text, text], language=[language, "en"]), named)
    assert counts[TERMS].tolist() == [len(words), len(reference.terms(text))]
    first = cuts_of(data, named).places[: cuts_of(data, named).starts[1]].tolist()
    assert [text[a:b] for a, b in reference.terms(text, [len(text.encode()[:at].decode()) for at in first])] == words


@pytest.mark.parametrize("kind", [GopherQuality, GopherRepetition, C4, RefinedWebLines])
def test_rows_do_not_depend_on_their_batch(kind: type[WordsStage]) -> None:
    """A document's words would be another one's; or slices would be counted anew otherwise."""
    stage = kind(segmenter={"zh": "jieba", "ja": "icu", "th": "icu"})
    rows = [CHINESE, "the cat and the dog of the house. " * 20, None, JAPANESE, "", THAI, CHINESE, "字" * 3000]
    data = batch(rows, language=["zh", "en", "zh", "ja", "th", "th", "en", "zh"])
    process = bound(stage)
    whole = process(data)
    ready = counted(data, stage.segmenter)[0]
    alone = [process(ready.slice(row, 1)) for row in range(len(rows))]
    assert [drop[1:] for drop in whole.dropped] == [drop[1:] for part in alone for drop in part.dropped]
    assert whole.batch.to_pylist() == [row for part in alone for row in part.batch.to_pylist()]
    assert whole.batch.equals(process(ready).batch)


def test_stages_with_other_segmenters_count_for_themselves() -> None:
    """A stage would judge by the words that another stage's segmenter cut; or a changed language go unseen."""
    data = batch([CHINESE], language=["zh"])
    plain, counts = counted(data)
    cut, words = counted(plain, {"zh": "jieba"})
    assert words[WORDS] < counts[WORDS]
    assert counted(cut)[1].tolist() == counts.tolist()
    assert counted(cut, {"zh": "jieba"})[0] is cut
    assert counted(batch([CHINESE], language=["ja"]), {"zh": "jieba"})[1].tolist() == counts.tolist()


def verdict(text: str, language: str, **fields: Any) -> tuple[Any, ...] | None:
    outcome = bound(GopherQuality(**fields))(batch([text], language=[language]))
    return outcome.dropped[0][1:] if outcome.dropped else None


def test_lengths_of_cut_words_are_held_against_limits_of_their_language() -> None:
    """All of Chinese would be dropped by English limits, or the length of its words could not be judged at all."""
    named = {"zh": "jieba"}
    assert verdict(CHINESE, "zh", segmenter=named) is None
    low = {"zh": {"min_word_length": 1.2, "max_word_length": 2.5}}
    assert verdict(CHINESE, "zh", segmenter=named, by_language=low) is None
    found = verdict("我的他是在这有和" * 20, "zh", segmenter={"zh": "test_segmenters:half"}, by_language=low)
    assert found is None or found[0] != "word_length"
    found = verdict("我 的 他 是 在 这 有 和 " * 20, "zh", segmenter=named, by_language=low)
    assert found == ("word_length", 1.0, 1.2)


def test_lines_are_counted_by_words() -> None:
    """C4 and RefinedWeb would go on counting characters."""
    line = "我们在北京大学学习。"  # 9 characters, 4 words
    data = batch([f"{line}\n" * 3], language=["zh"])
    assert not reasons(bound(C4(min_line_words=5, min_sentences=0))(data))
    cut = bound(C4(min_line_words=5, min_sentences=0, segmenter={"zh": "jieba"}))(data)
    assert cut.counts["lines_cut_few_words"] == 3
    single = bound(RefinedWebLines(segmenter={"zh": "jieba"}, max_flagged_words=1))(
        batch([f"北京大学\n{line}"], language=["zh"])
    )
    assert single.batch.column("text").to_pylist() == [line]
    assert single.counts["lines_cut_one_word"] == 1


def test_versions_are_part_of_the_resume_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run would go on with the words of another dictionary, or of another version of the user's function."""
    packages = GopherQuality(segmenter={"zh": "jieba", "th": "icu"}).fingerprint()["packages"]
    assert set(packages) == {"regex", "rjieba", "icu4py", "icu"}  # type: ignore[call-overload]
    module = tmp_path / "my_words.py"
    module.write_text("def cut(text):\n    return list(text)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stage = GopherQuality(segmenter={"zh": "my_words:cut"})
    before = stage.fingerprint()
    module.write_text("def cut(text):\n    return [text]\n")
    assert stage.fingerprint() != before


@pytest.mark.parametrize("text", ["字" * 200_000, "ก" * 200_000, "カ" * 200_000, "\0" * 9, "\u0301", "，" * 1000])
def test_texts_of_one_character_are_cut(text: str) -> None:
    """A worthless page would stop a run."""
    for name in ("icu", "jieba"):
        found = cuts(texts(pa.array([text])), [(name, "zh")])
        assert found.starts[-1] == len(found.places)
        assert found.places[-1] == len(text.encode())


@needs_shared
@pytest.mark.parametrize(
    ("code", "language"), [("zho-CN", "zh"), ("jpn", "ja"), ("tha", "th"), ("lao", "lo"), ("khm", "km")]
)
def test_news_passes_with_words(code: str, language: str) -> None:
    """The lists of stop words would have none that a segmenter gives."""
    with gzip.open(SHARED / "langid" / "ntrex_sample.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row["text"] for row in map(json.loads, lines) if row["lang"] == code]
    for name in ("icu", "jieba") if language == "zh" else ("icu",):
        for start in range(0, 60, 15):
            text = "\n".join(rows[start : start + 15])
            assert verdict(text, language, min_words=0, segmenter={language: name}) is None, text
