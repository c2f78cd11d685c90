"""Text made regular, without harm to any script."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.normalize import Normalize


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
    outcome = Normalize().process(batch(["\n\na \u3000\r\nb\x00\x07\u2028c\t\n\n\n\n\n\nd\ufeff  "]))
    assert texts(outcome) == ["a\nb\nc\n\n\nd"]
    assert outcome.counts == {"changed_documents": 1, "characters_cut": 13}
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


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.sampled_from(["NFC", "NFKC"]))
def test_what_comes_out_is_regular(text: str, form: str) -> None:
    """Later stages rely on one form, no control characters, and no blanks at line ends."""
    for new in texts(Normalize(form=form).process(batch([text]))):  # type: ignore[arg-type]
        assert unicodedata.is_normalized(form, new)  # type: ignore[arg-type]
        assert "\ufeff" not in new
        assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in new)
        assert all(line == line.rstrip() for line in new.split("\n"))
        assert "\n\n\n\n" not in new


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
