"""Emoji to names, in the language of the document, and nothing else touched."""

from __future__ import annotations

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.emoji_names import LANGUAGES, Emoji


@pytest.mark.parametrize(
    ("text", "language", "name", "shortcode", "removed"),
    [
        ("I❤️you", "en", "I red heart you", "I:red_heart:you", "I you"),
        ("我❄️你", "zh", "我雪花你", "我:雪花:你", "我你"),
        ("我❄️你", "zh-CN", "我雪花你", "我:雪花:你", "我你"),
        ("very🆒ok", "zh", "very cool按钮ok", "very:cool按钮:ok", "very ok"),
        ("とても😀です", "ja", "とてもにっこり笑うです", "とても:にっこり笑う:です", "とてもです"),
        ("Ich ❤️ dich", "de", "Ich rotes herz dich", "Ich :rotes_herz: dich", "Ich  dich"),
        ("สวัสดี👋ครับ", "th", "สวัสดี waving hand ครับ", "สวัสดี:waving_hand:ครับ", "สวัสดีครับ"),
        ("Great!👍", None, "Great! thumbs up", "Great!:thumbs_up:", "Great!"),
        ("(👍), ok👍.", "en", "(thumbs up), ok thumbs up.", "(:thumbs_up:), ok:thumbs_up:.", "(), ok."),
        ("a🇩🇪🇫🇷b", "en", "a Germany France b", "a:Germany::France:b", "a b"),
        ("👩🏽‍🚀!", "en", "woman astronaut medium skin tone!", ":woman_astronaut_medium_skin_tone:!", "!"),
        ("call 1️⃣ now", "en", "call keycap 1 now", "call :keycap_1: now", "call  now"),
    ],
)
def test_names(text: str, language: str | None, name: str, shortcode: str, removed: str) -> None:
    """Emoji would be lost, glued to words, or named in the wrong language."""
    for mode, expected in (("name", name), ("shortcode", shortcode), ("remove", removed), ("keep", text)):
        outcome = Emoji(mode=mode).process(batch([text], language=[language]))  # type: ignore[arg-type]
        assert texts(outcome) == [expected]
        assert outcome.counts.get("emoji_replaced", 0) == (
            0 if mode == "keep" else 2 if "🇫🇷" in text or "(👍)" in text else 1
        )


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 = 3 # 5 * 4 © ® ™ ©️",
        "a → b ↔ c ‼ ℹ Ⓜ ▪ ■ 〰 ㊗",
        "क्‍ष श्री",
        "می‌خواهم",
        "❤︎ as text",
        "日本語、中文。한국어",
        "",
    ],
)
def test_what_is_no_emoji_stays(text: str) -> None:
    """Digits, typography and joiners of Indic scripts and Persian would be damaged."""
    data = batch([text])
    outcome = Emoji().process(data)
    assert texts(outcome) == [text]
    assert outcome.batch.column("text").buffers()[2] is None or (
        outcome.batch.column("text").buffers()[2].address == data.column("text").buffers()[2].address
    )


def test_fallback_and_empty() -> None:
    """A recipe could not choose the language of last resort; texts of emoji alone would become empty documents."""
    data = batch(["❤️", None, "❤️"], language=["sw", "en", "fr"])
    assert texts(Emoji(fallback_language="es").process(data)) == ["corazón rojo", "cœur rouge"]
    assert reasons(Emoji(mode="remove").process(data)) == [(0, "empty_text"), (1, "no_text"), (2, "empty_text")]


@given(st.text("a我 .,(\n❤\ufe0f\ufe0e👍🏽👩\u200d🚀1#\u20e3🇩🇪🏴\U000e0067", max_size=20), st.sampled_from(LANGUAGES))
def test_text_around_emoji_is_kept(text: str, language: str) -> None:
    """Characters beside an emoji would be swallowed."""
    for mode in ("name", "shortcode", "remove"):
        new, number = Emoji(mode=mode).replace(text, language)  # type: ignore[arg-type]
        assert number or new == text
        assert new.count("\n") == text.count("\n")
        if mode == "remove":
            assert [c for c in new if c in "a我.,("] == [c for c in text if c in "a我.,("]
            assert "👍" not in new.replace("👍\ufe0e", "")
        else:
            assert new.count("我") >= text.count("我")


@needs_shared
def test_every_emoji_of_unicode_has_a_name() -> None:
    """Emoji of Unicode's own list would stay in the text."""
    lines = (SHARED / "emoji_mojibake" / "emoji-test.txt").read_text("utf-8").splitlines()
    symbols = [
        "".join(chr(int(code, 16)) for code in line.split(";")[0].split())
        for line in lines
        if not line.startswith("#") and "; fully-qualified" in line
    ]
    kept = [symbol for symbol in symbols if Emoji().replace(f"x {symbol} y", "en")[1] != 1]
    assert len(symbols) > 2000
    assert {symbol.strip("\ufe0f") for symbol in kept} <= set("©®™")


def test_all_but_typography_is_as_the_library_has_it() -> None:
    """Our search for emoji, which is linear where the library's is quadratic, would miss some."""
    differ = {
        symbol.strip("\ufe0f")
        for symbol in emoji.EMOJI_DATA
        for text in (f"x {symbol} y", symbol + symbol)
        if Emoji(mode="shortcode").replace(text, "en")[0] != emoji.demojize(text)
    }
    assert all(len(symbol) == 1 and (symbol < "\u2600" or symbol in "〰〽㊗㊙") for symbol in differ)
    assert {"©", "®", "™", "ℹ", "↔"} <= differ
    assert Emoji(mode="remove").replace("👨\u200d👩🏿\u200d" * 10_000, "en")[0].strip("\u200d") == ""
