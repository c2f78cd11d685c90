"""Text made regular, without harm to any script."""

from __future__ import annotations

import json
import unicodedata

import emoji
import ftfy
import pyarrow as pa
import pytest
import regex
from ftfy import fix_text
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from ftfy.chardata import C1_CONTROL_RE, HTML_ENTITY_RE, LIGATURES
from ftfy.fixes import ANSI_RE
from hypothesis import given, settings
from hypothesis import strategies as st
from normalize_reference import reference
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.normalize import Normalize
from stages.normalize.mend import mended
from stages.normalize.scan import FTFY, scan
from stages.text.column import texts as column_texts
from stages.text.forms import Form as AnyForm
from stages.text.forms import normalized as in_form


def normalized(text: str, **fields: object) -> str:
    (new,) = texts(Normalize(**fields).process(batch([text])))  # type: ignore[arg-type]
    return new


def test_mojibake_is_mended() -> None:
    """The model would learn `schÃ¶n`."""
    assert normalized("schÃ¶n âœ” No problems") == "schön ✔ No problems"
    assert normalized("schÃ¶n", fix_encoding=False) == "schÃ¶n"


def test_cjk_punctuation_and_quotes_stay() -> None:
    """Chinese and Japanese would lose their own punctuation to ASCII."""
    for text in ("你好，世界！（真的吗？）“是的”", "「ﾃｽﾄ」、これは　テスト。", "„Ja“, sagte er. ‘No’"):
        assert normalized(text) == text
    assert normalized("你好，世界！", fix_character_width=True) == "你好,世界!"
    assert normalized("“a”", uncurl_quotes=True) == '"a"'


def test_lines_blanks_and_controls() -> None:
    """Tokens would be spent on invisible characters, and what was cut would not be counted."""
    outcome = Normalize().process(batch(["\n\na \u3000\r\nb\x00\x07\u2028c\t\n\n\n\n\n\nd\ufeff\ufffc  "]))
    assert texts(outcome) == ["a\nb\nc\n\n\nd"]
    assert outcome.counts == {"changed_documents": 1, "characters_cut": 14}
    assert normalized("a\n\n\nb", max_blank_lines=0) == "a\nb"


def test_forms() -> None:
    """Two spellings of one letter would be two tokens."""
    assert normalized("e\u0301 10³") == "é 10³"
    assert normalized("10³ ｶﾞ", form="NFKC") == "103 ガ"
    assert normalized("क्\u200dष می\u200cخواهم 👨\u200d👩") == "क्\u200dष می\u200cخواهم 👨\u200d👩"


def test_entities() -> None:
    """`&amp;` would stay in pages that escape twice; code that shows HTML would be spoilt."""
    assert normalized("Fish &amp; chips") == "Fish & chips"
    assert normalized("write &lt;b&gt; for <b>") == "write &lt;b&gt; for <b>"
    assert normalized("Fish &amp; chips", unescape_html=False) == "Fish &amp; chips"


def test_empty_texts_are_drops() -> None:
    """Empty documents would reach the shards, or go uncounted."""
    outcome = Normalize().process(batch(["", " \n\x00\u3000", None, "x"]))
    assert reasons(outcome) == [(0, "empty_text"), (1, "empty_text"), (2, "no_text")]


def test_unchanged_columns_are_not_copied() -> None:
    """Clean text, most of a crawl, would be written anew for nothing."""
    data = batch(["clean", "also clean"])
    assert (
        Normalize().process(data).batch.column("text").buffers()[2].address == data.column("text").buffers()[2].address
    )


PIECES = [
    "ab cdEF.;&#lt12-\n\r\t<", "".join(MOJIBAKE_CATEGORIES.values()), "ÂÃâ€œš™ŸžéèàœŒ \x85\x9d", "-\n\r\u2010\xad aбαա",
    "e\u0301\u0323a\u0328é각ᄀ\u1161\u11a8ক\u09c7\u09be\u0344\u0f73\u1e0a", "\ufb01ĳǅ\x1b[3m;", "ก\u200bข \xa0\u3000",
    "中文，。 \u3000\u2028\v\f\x00\x07\ufeff\u206a\u2061", "क्\u200d\u200cषمی\u200b👩🏽🚀\ufe0fa", "\n\n \t\r",
]  # fmt: skip
ENTITIES = ["&amp;", "&#65;", "&#x41;", "&lt;", "&NTILDE;", "&NewLine;", "<", "&", "\n", "\r\n", "\u0301", "\x1b[0m"]
ANYTHING = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(ANYTHING, max_size=60),
    st.lists(st.sampled_from([*"".join(PIECES), *ENTITIES]), max_size=60).map("".join),
    st.lists(st.one_of(*(st.text(piece, max_size=8) for piece in PIECES), st.sampled_from(ENTITIES)), max_size=8).map(
        "".join
    ),
    st.tuples(st.text(ANYTHING, max_size=12), st.sampled_from(["latin-1", "cp437", "mac-roman"])).map(
        lambda pair: pair[0].encode().decode(pair[1])
    ),
)
STAGES = [
    Normalize(),
    Normalize(form="NFKC", max_blank_lines=0, collapse_blanks=True, zero_width="remove"),
    Normalize(dehyphenate=True, collapse_blanks=True, unescape_html=False),
    Normalize(uncurl_quotes=True, fix_character_width=True, fix_encoding=False, zero_width="keep", soft_hyphens="keep"),
    Normalize(dehyphenate=True, soft_hyphens="keep", max_blank_lines=1),
]


@settings(max_examples=500)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from(STAGES))
def test_the_kernels_do_what_plain_python_does(values: list[str], stage: Normalize) -> None:
    """Text would be mended, or cut, only where the gate happens to look."""
    expected = [reference(value, stage) for value in values]
    outcome = stage.process(batch(values))  # type: ignore[arg-type]
    assert texts(outcome) == [new for new, _ in expected if new]
    assert [row for row, _ in reasons(outcome)] == [row for row, (new, _) in enumerate(expected) if not new]
    assert outcome.counts.get("characters_cut", 0) == sum(cut for _, cut in expected)
    kept = [(old, new) for old, (new, _) in zip(values, expected, strict=True) if new]
    assert outcome.counts.get("changed_documents", 0) == sum(old != new for old, new in kept)


@settings(max_examples=300)
@given(TEXTS, st.sampled_from(STAGES))
def test_what_comes_out_is_regular(text: str, stage: Normalize) -> None:
    """Later stages rely on one form, no control characters, and no blanks at line ends."""
    for new in texts(stage.process(batch([text]))):
        assert unicodedata.is_normalized(stage.form, new)
        assert "\ufeff" not in new
        assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in new)
        assert all(line == line.rstrip() for line in new.split("\n"))
        assert "\n" * (stage.max_blank_lines + 2) not in new


@settings(max_examples=500)
@given(st.lists(TEXTS, min_size=1, max_size=10).map("\n".join))
def test_lines_left_out_are_lines_that_ftfy_would_not_change(text: str) -> None:
    """The gate would let mojibake through, or send ordinary lines to ftfy, which is what costs time."""
    stage = Normalize()
    lines, _ = scan(column_texts(pa.array([text])), stage._kinds(), 2, False, False)
    sent = {int(start) for start, why in zip(lines.starts, lines.why, strict=True) if why & FTFY}
    place, tagged = 0, False
    for line in regex.findall(r"[^\n]*\n|[^\n]+", text):
        tagged |= "<" in line
        seen = line.replace("\r\n", "\n")
        config = stage._config()._replace(unescape_html=not tagged)
        suspicious = is_bad(seen) or any(pattern.search(seen) for pattern in (C1_CONTROL_RE, ANSI_RE))
        suspicious |= bool(set(map(ord, seen)) & LIGATURES.keys()) or bool(not tagged and HTML_ENTITY_RE.search(seen))
        assert (place in sent) == suspicious
        assert suspicious or fix_text(seen, config) == seen
        assert mended(seen, stage._config(), tagged) == fix_text(seen, config)
        place += len(line.encode())


def test_zero_width_characters_stay_where_they_mean_something() -> None:
    """Persian, Hindi and emoji would be broken, or words of other scripts be parted by what nobody sees."""
    for text in (
        "می\u200cخواهم", "क्\u200dष", "क्\u200cष", "ര്\u200d", "ක්\u200dර", "র\u200d্য", "ه\u200d", "ไทย\u200bไทย",
        "۱۲۵\u200cام", "PDF\u200cها",
        "👨\u200d👩\u200d👧", "🏴\u200d☠️", "👩🏽\u200d🚀",
    ):  # fmt: skip
        assert normalized(text) == text
    assert (
        normalized("zero\u200bwidth\u200c\u200d \u2060x \u200d你\u200b好 خیمه\u200c شب") == "zerowidth x 你好 خیمه شب"
    )
    assert normalized("می\u200cخواهم zero\u200bwidth", zero_width="remove") == "میخواهم zerowidth"
    assert normalized("zero\u200bwidth", zero_width="keep") == "zero\u200bwidth"


@settings(max_examples=300)
@given(
    st.text("aé\u0301\u0323\u0344\u302e\u0e48\u0903\u05b0\u1d165", max_size=60),
    st.integers(1, 40),
    st.sampled_from(["NFC", "NFKC", "NFD", "NFKD"]),
)
def test_rows_of_marks_are_ordered_as_unicode_says(text: str, times: int, form: AnyForm) -> None:
    """Marks would be lost or put on other letters, where Python alone takes hours."""
    assert in_form(text * times, form) == unicodedata.normalize(form, text * times)


def test_emoji_sequences_stay() -> None:
    """The stage `emoji` would no longer know what normalize took apart."""
    changed = [symbol for symbol in emoji.EMOJI_DATA if normalized(f"x {symbol} y") != f"x {symbol} y"]
    assert not changed


def test_hyphens() -> None:
    """Words parted at line ends would be two words for the model, and compounds or dashes be joined."""
    assert normalized("soft\xadhyphen") == "softhyphen"
    assert normalized("soft\xadhyphen", soft_hyphens="keep") == "soft\xadhyphen"
    text = "exam-  \r\nple, Пере-\nнос, soft\xad\nly, A-\nB, 1-\na, x -\ny, dash--\nno, a-\n\nb, end-\n  in"
    joined = "example, Перенос, softly, A-\nB, 1-\na, x -\ny, dash--\nno, a-\n\nb, end-\n  in"
    assert normalized(text, dehyphenate=True) == joined
    assert normalized("well-\nknown") == "well-\nknown"


def test_blanks_inside_lines() -> None:
    """Tables and code would lose their columns though nobody asked for it; who asks would get it half."""
    text = "  a  b\t\tc \td\n\u3000\u3000你\u3000\u3000好"
    assert normalized(text) == text
    assert normalized(text, collapse_blanks=True) == "  a b\tc d\n\u3000\u3000你\u3000好"


@pytest.mark.parametrize("piece", ["é", "\u0301", "\u0301\u0323", "- \n", "\u200d", "\x00", "&", "-\xad"])
def test_large_texts_of_one_kind(piece: str) -> None:
    """One odd document would hold up the run, or end it."""
    text = piece * 1_000_000
    (verdict,) = texts(Normalize(dehyphenate=True, collapse_blanks=True).process(batch([text]))) or [""]
    assert len(verdict) <= len(text)


@pytest.mark.parametrize(
    "row", ["&" + "amp;" * 20_000, "Â" * 20_000 + "\xa0", "中" + "Ã\x82" * 20_000 + "\xa0", "Ã" + "ƒ" * 20_000]
)
def test_rows_that_ftfy_mends_one_by_one(row: str) -> None:
    """One line of garbage would hold up the run for minutes, or days if it is long."""
    work: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        once = ftfy._fix_encoding_one_step_and_explain
        patch.setattr(
            ftfy, "_fix_encoding_one_step_and_explain", lambda text, config: work.append(text) or once(text, config)
        )
        (new,) = texts(Normalize().process(batch([row])))
    assert sum(map(len, work)) <= 40 * len(row)
    assert len(new) < len(row)


def test_lines_longer_than_ftfy_takes_at_once() -> None:
    """What ftfy parts at a million characters would be judged in other parts by the gate."""
    stage = Normalize()
    for text in ("x" * 999_999 + "Ã\xa0 x", "a" * 999_998 + "&amp;" + "b" * 999_997 + "&lt; <"):
        assert texts(stage.process(batch([text]))) == [reference(text, stage)[0]]


@needs_shared
def test_ftfy_cases() -> None:
    """A release of ftfy could mend less than its own cases say, unnoticed."""
    folder = SHARED / "emoji_mojibake" / "ftfy" / "tests" / "test-cases"
    cases = [case for file in sorted(folder.glob("*.json")) for case in json.loads(file.read_text("utf-8"))]
    cases = [case for case in cases if case["expect"] == "pass"]
    settings_of_ftfy = {"uncurl_quotes": True, "fix_character_width": True, "max_blank_lines": 99}
    wrong = [
        case["label"]
        for case in cases
        if normalized(case["original"], **settings_of_ftfy).split() != case["fixed"].split()
    ]
    assert len(cases) > 100
    # ftfy keeps one control character that we remove.
    assert wrong == ["Synthetic, negative: don't leak our internal use of byte 0x1A"]
    for stage in STAGES:
        values = [case[key] for case in cases for key in ("original", "fixed")]
        assert texts(stage.process(batch(values))) == [reference(value, stage)[0] for value in values]
